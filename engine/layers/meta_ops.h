#pragma once
/// The ops of cpu_ops.h on tensors that have sizes and no memory: results of the same sizes, and what the CPU's kernels
/// take in between, so that a step walked on the meta device takes what a run takes. Registered in ops.cpp; same
/// signatures. No value is read but that of targets, which may lie on the CPU; on the meta device all are counted.

#include "engine/layers/cpu_ops.h"

namespace ft::meta {

std::tuple<at::Tensor, at::Tensor> rms_norm_forward(const at::Tensor& x, const at::Tensor& weight, double eps);
std::tuple<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& grad, const at::Tensor& x,
                                                     const at::Tensor& weight, const at::Tensor& rstd, bool want_x,
                                                     bool want_weight);
at::Tensor rope_forward(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, const at::Tensor& positions,
                        bool inverse);
at::Tensor swiglu_forward(const at::Tensor& gate, const at::Tensor& up);
std::tuple<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& grad, const at::Tensor& gate,
                                                   const at::Tensor& up);
at::Tensor dropout_forward(const at::Tensor& x, const at::Tensor& keys, double p);
void dropout_add(at::Tensor into, const at::Tensor& x, const at::Tensor& keys, double p);
std::tuple<at::Tensor, at::Tensor> attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     at::IntArrayRef documents, int64_t window);
std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward(const at::Tensor& grad, const at::Tensor& q,
                                                                  const at::Tensor& k, const at::Tensor& v,
                                                                  const at::Tensor& out, const at::Tensor& lse,
                                                                  at::IntArrayRef documents, int64_t window);
void attention_part(at::Tensor out, at::Tensor lse, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    at::IntArrayRef slices);
void attention_part_backward(at::Tensor gq, at::Tensor gk, at::Tensor gv, const at::Tensor& grad, const at::Tensor& q,
                             const at::Tensor& k, const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                             at::IntArrayRef slices);
at::Tensor nf4_dequantize(const at::Tensor& records, int64_t rows, int64_t columns, double nested_offset,
                          bool double_quant, at::ScalarType dtype);
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> linear_cross_entropy_forward(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, const std::optional<at::Tensor>& low,
    const std::optional<at::Tensor>& up, double scale, bool want_x, bool want_weight);

}  // namespace ft::meta
