#pragma once
/// CUDA kernels behind the ops of ops.h, as the dispatcher knows them; cpu_ops.h says what each computes. Part of the
/// CUDA plugin, registered by ops_cuda.cpp. All of them queue their work on the current stream of the inputs' device
/// and return before it is done, but where a comment says that they wait. Inputs need not be contiguous. fp32, bf16 and
/// fp16, fp32 inside. The same inputs give the same bits on every run: no sum is made by atomics.

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace ft::cuda {

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

/// bf16 and fp16 through LibTorch's Flash attention, fp32 through its memory-efficient one, all documents in one call.
/// @return out [B, T, H, D] and the logarithms of the softmax sums, in the layout that the backward of that kernel
/// wants.
std::tuple<at::Tensor, at::Tensor> attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                     at::IntArrayRef documents, int64_t window);
std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward(const at::Tensor& grad, const at::Tensor& q,
                                                                  const at::Tensor& k, const at::Tensor& v,
                                                                  const at::Tensor& out, const at::Tensor& lse,
                                                                  at::IntArrayRef documents, int64_t window);

/// Each slice by itself, in the same kernels.   @throws Error(config) for slices under a window.
void attention_part(at::Tensor out, at::Tensor lse, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    at::IntArrayRef slices);
void attention_part_backward(at::Tensor gq, at::Tensor gk, at::Tensor gv, const at::Tensor& grad, const at::Tensor& q,
                             const at::Tensor& k, const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
                             at::IntArrayRef slices);

at::Tensor nf4_dequantize(const at::Tensor& records, int64_t rows, int64_t columns, double nested_offset,
                          bool double_quant, at::ScalarType dtype);
/// Waits for the device between the halves: the offset is checked, and summed, on the host.
std::tuple<at::Tensor, double> nf4_quantize(const at::Tensor& x, bool double_quant);

/// Waits for the device once: how many tokens have a target decides the shapes.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> linear_cross_entropy_forward(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, const std::optional<at::Tensor>& low,
    const std::optional<at::Tensor>& up, double scale, bool want_x, bool want_weight);

}  // namespace ft::cuda
