#pragma once
/// ft::adamw8bit_, one AdamW step on 8-bit state: an op of the dispatcher, so that the CUDA plugin brings a kernel of
/// its own. The schema and the CPU's kernel are in adamw8bit.cpp; BlockAdamW is the caller.

#include <ATen/core/Tensor.h>

namespace ft::ops {

/// Steps every tensor of the lists, which are parallel and of one device. For tensor i, with scale s of a block of 256:
///   m = signed map[code]·s, v = unsigned map[code]·s (engine/quant/block8.h), then AdamW in fp32, the decay first:
///   m += (1−β1)(g − m);  v += (1−β2)(g² − v);  p = (1 − lr·decay)·p − lr/(1−β1^t) · m / (sqrt(v)/sqrt(1−β2^t) + eps)
/// (torchao/optim/adam.py, single_param_adam; constants are rounded once and multiplied by, multiply-adds are fused)
/// and both averages become codes and scales again.
/// @param masters fp32 [n], contiguous, updated   @param grads fp32 [n], contiguous
/// @param exp_avgs, exp_avg_sqs uint8 [n], updated   @param exp_avg_scales, exp_avg_sq_scales fp32 [ceil(n / 256)]
/// @param lrs, weight_decays one a tensor   @param step t, 1 for the first
void adamw8bit_(at::TensorList masters, at::TensorList grads, at::TensorList exp_avgs, at::TensorList exp_avg_sqs,
                at::TensorList exp_avg_scales, at::TensorList exp_avg_sq_scales, at::ArrayRef<double> lrs,
                at::ArrayRef<double> weight_decays, double beta1, double beta2, double eps, int64_t step);

}  // namespace ft::ops
