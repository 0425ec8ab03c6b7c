/// The schemas of the engine's ops and what stands behind them: differentiable ops (nodes in autograd.cpp and
/// linear_autograd.cpp) and the CPU's kernels. Every op function below or in those files pulls this file into the
/// binary.
#include "engine/layers/ops.h"

#include <torch/library.h>

#include "engine/layers/cpu_ops.h"
#include "engine/layers/meta_ops.h"

namespace ft::ops {
namespace {

at::Tensor rms_norm_op(const at::Tensor& x, const at::Tensor& weight, double eps) { return rms_norm(x, weight, eps); }

at::Tensor embedding_op(const at::Tensor& weight, const at::Tensor& tokens) {
  return embedding(weight, tokens, weight.scalar_type());
}

at::Tensor linear_cross_entropy_op(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets,
                                   double scale) {
  return linear_cross_entropy(x, weight, targets, scale);
}

at::Tensor or_undefined(const std::optional<at::Tensor>& tensor) { return tensor.value_or(at::Tensor()); }

at::Tensor lora_linear_op(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                          const at::Tensor& lora_a, const at::Tensor& lora_b, double scale,
                          const std::optional<at::Tensor>& dropout_keys, double dropout_p) {
  return linear(x, {.value = weight}, or_undefined(bias),
                {lora_a, lora_b, scale, or_undefined(dropout_keys), dropout_p});
}

at::Tensor nf4_lora_linear_op(const at::Tensor& x, const at::Tensor& records, int64_t out_features,
                              double nested_offset, bool double_quant, const std::optional<at::Tensor>& bias,
                              const std::optional<at::Tensor>& lora_a, const std::optional<at::Tensor>& lora_b,
                              double scale, const std::optional<at::Tensor>& dropout_keys, double dropout_p) {
  return linear(x, {records, true, out_features, nested_offset, double_quant}, or_undefined(bias),
                {or_undefined(lora_a), or_undefined(lora_b), scale, or_undefined(dropout_keys), dropout_p});
}

}  // namespace

TORCH_LIBRARY(ft, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor", rms_norm_op);
  m.def("rope(Tensor x, Tensor cos, Tensor sin, Tensor positions) -> Tensor", rope);
  m.def("swiglu(Tensor gate, Tensor up) -> Tensor", swiglu);
  m.def("attention(Tensor q, Tensor k, Tensor v, int[] documents, int window=0) -> Tensor", attention);
  m.def("counter_dropout(Tensor x, Tensor keys, float p) -> Tensor", counter_dropout);
  m.def("embedding(Tensor weight, Tensor tokens) -> Tensor", embedding_op);
  m.def(
      "lora_linear(Tensor x, Tensor weight, Tensor? bias, Tensor lora_a, Tensor lora_b, float scale, "
      "Tensor? dropout_keys=None, float dropout_p=0.0) -> Tensor",
      lora_linear_op);
  m.def(
      "nf4_lora_linear(Tensor x, Tensor records, int out_features, float nested_offset, bool double_quant, Tensor? "
      "bias, "
      "Tensor? lora_a, Tensor? lora_b, float scale, Tensor? dropout_keys=None, float dropout_p=0.0) -> Tensor",
      nf4_lora_linear_op);
  m.def("linear_cross_entropy(Tensor x, Tensor weight, Tensor targets, float scale=1.0) -> Tensor",
        linear_cross_entropy_op);

  m.def("rms_norm_forward(Tensor x, Tensor weight, float eps) -> (Tensor, Tensor)");
  m.def(
      "rms_norm_backward(Tensor grad, Tensor x, Tensor weight, Tensor rstd, bool want_x, bool want_weight) -> (Tensor, "
      "Tensor)");
  m.def("rope_forward(Tensor x, Tensor cos, Tensor sin, Tensor positions, bool inverse) -> Tensor");
  m.def("swiglu_forward(Tensor gate, Tensor up) -> Tensor");
  m.def("swiglu_backward(Tensor grad, Tensor gate, Tensor up) -> (Tensor, Tensor)");
  m.def("dropout_forward(Tensor x, Tensor keys, float p) -> Tensor");
  m.def("dropout_add(Tensor(a!) into, Tensor x, Tensor keys, float p) -> ()");
  m.def("attention_forward(Tensor q, Tensor k, Tensor v, int[] documents, int window) -> (Tensor, Tensor)");
  m.def(
      "attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, int[] documents, int "
      "window) -> (Tensor, Tensor, Tensor)");
  m.def("attention_part(Tensor(a!) out, Tensor(b!) lse, Tensor q, Tensor k, Tensor v, int[] slices) -> ()");
  m.def(
      "attention_part_backward(Tensor(a!) gq, Tensor(b!) gk, Tensor(c!) gv, Tensor grad, Tensor q, Tensor k, Tensor v, "
      "Tensor out, Tensor lse, int[] slices) -> ()");
  m.def(
      "nf4_dequantize(Tensor records, int rows, int columns, float nested_offset, bool double_quant, ScalarType dtype) "
      "-> "
      "Tensor");
  m.def("nf4_quantize(Tensor x, bool double_quant) -> (Tensor, float)");
  m.def(
      "linear_cross_entropy_forward(Tensor x, Tensor weight, Tensor targets, Tensor? low, Tensor? up, float scale, "
      "bool want_x, bool want_weight) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(ft, CPU, m) {
  m.impl("rms_norm_forward", cpu::rms_norm_forward);
  m.impl("rms_norm_backward", cpu::rms_norm_backward);
  m.impl("rope_forward", cpu::rope_forward);
  m.impl("swiglu_forward", cpu::swiglu_forward);
  m.impl("swiglu_backward", cpu::swiglu_backward);
  m.impl("dropout_forward", cpu::dropout_forward);
  m.impl("dropout_add", cpu::dropout_add);
  m.impl("attention_forward", cpu::attention_forward);
  m.impl("attention_backward", cpu::attention_backward);
  m.impl("attention_part", cpu::attention_part);
  m.impl("attention_part_backward", cpu::attention_part_backward);
  m.impl("nf4_dequantize", cpu::nf4_dequantize);
  m.impl("nf4_quantize", cpu::nf4_quantize);
  m.impl("linear_cross_entropy_forward", cpu::linear_cross_entropy_forward);
}

TORCH_LIBRARY_IMPL(ft, Meta, m) {
  m.impl("rms_norm_forward", meta::rms_norm_forward);
  m.impl("rms_norm_backward", meta::rms_norm_backward);
  m.impl("rope_forward", meta::rope_forward);
  m.impl("swiglu_forward", meta::swiglu_forward);
  m.impl("swiglu_backward", meta::swiglu_backward);
  m.impl("dropout_forward", meta::dropout_forward);
  m.impl("dropout_add", meta::dropout_add);
  m.impl("attention_forward", meta::attention_forward);
  m.impl("attention_backward", meta::attention_backward);
  m.impl("attention_part", meta::attention_part);
  m.impl("attention_part_backward", meta::attention_part_backward);
  m.impl("nf4_dequantize", meta::nf4_dequantize);
  m.impl("linear_cross_entropy_forward", meta::linear_cross_entropy_forward);
}

}  // namespace ft::ops
