#pragma once
/// The ops of op_signatures.h on tensors that have sizes and no memory: results of the same sizes, and what the CPU's
/// kernels take in between, so that a step walked on the meta device takes what a run takes. Registered in ops.cpp. No
/// value is read but that of targets, which may lie on the CPU; on the meta device all are counted. There is no
/// nf4_quantize: a step quantizes nothing.

#include "engine/layers/op_signatures.h"

namespace ft::meta {

signature::RmsNormForward rms_norm_forward;
signature::RmsNormBackward rms_norm_backward;
signature::RopeForward rope_forward;
signature::SwigluForward swiglu_forward;
signature::SwigluBackward swiglu_backward;
signature::DropoutForward dropout_forward;
signature::DropoutAdd dropout_add;
signature::AttentionForward attention_forward;
signature::AttentionBackward attention_backward;
signature::AttentionPart attention_part;
signature::AttentionPartBackward attention_part_backward;
signature::Nf4Dequantize nf4_dequantize;
signature::LinearCrossEntropyForward linear_cross_entropy_forward;

}  // namespace ft::meta
