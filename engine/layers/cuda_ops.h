#pragma once
/// CUDA kernels behind the ops of ops.h, as the dispatcher knows them; op_signatures.h says what each computes. Part of
/// the CUDA plugin, registered by ops_cuda.cpp. All of them queue their work on the current stream of the inputs'
/// device and return before it is done, but where a comment says that they wait. fp32, bf16 and fp16, fp32 inside. The
/// same inputs give the same bits on every run: no sum is made by atomics.

#include "engine/layers/op_signatures.h"

namespace ft::cuda {

signature::RmsNormForward rms_norm_forward;
signature::RmsNormBackward rms_norm_backward;
signature::RopeForward rope_forward;
signature::SwigluForward swiglu_forward;
signature::SwigluBackward swiglu_backward;
signature::DropoutForward dropout_forward;
signature::DropoutAdd dropout_add;
/// bf16 and fp16 through LibTorch's Flash attention, fp32 through its memory-efficient one, all documents in one call.
/// The logarithms of the softmax sums are in the layout that the backward of that kernel wants.
signature::AttentionForward attention_forward;
signature::AttentionBackward attention_backward;
/// Each slice by itself, in the same kernels.   @throws Error(config) for slices under a window.
signature::AttentionPart attention_part;
signature::AttentionPartBackward attention_part_backward;
signature::Nf4Dequantize nf4_dequantize;
/// Waits for the device between the halves: the offset is checked, and summed, on the host.
signature::Nf4Quantize nf4_quantize;
/// Waits for the device once: how many tokens have a target decides the shapes.
signature::LinearCrossEntropyForward linear_cross_entropy_forward;

}  // namespace ft::cuda
