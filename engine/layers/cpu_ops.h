#pragma once
/// CPU kernels behind the ops of ops.h, as the dispatcher knows them; op_signatures.h says what each computes.
/// Results do not depend on the number of threads: sums over tokens are made in fixed chunks, in order.

#include "engine/layers/op_signatures.h"

namespace ft {
struct AttentionSlice;
}

namespace ft::cpu {

/// Logits of the loss that stand at one time.
inline constexpr int64_t kLogitBytes = int64_t{64} << 20;

/// Whether attention multiplies a slice of half-precision tensors in fp32 (attention_cpu.cpp says why).
bool attends_in_fp32(const AttentionSlice& slice);

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
signature::Nf4Quantize nf4_quantize;
signature::LinearCrossEntropyForward linear_cross_entropy_forward;

}  // namespace ft::cpu
