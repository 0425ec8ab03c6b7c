#pragma once
/// AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019) with fp32 or block-wise 8-bit state, on
/// the device of the pieces. Built by build_optimizer alone; no rank meets another.

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/optim/optimizer_options.h"

namespace ft {

/// ATen's fused kernel on fp32 state.
class FusedAdamW final : public Optimizer {
 public:
  FusedAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces);
  bool scale_gradients(double factor) override;
  void step(double lr) override;
  std::vector<StateTensor> state() override;

 private:
  struct Group {  // what one call of the kernel takes
    double lr_scale, weight_decay;
    std::vector<at::Tensor> masters{}, grads{}, exp_avgs{}, exp_avg_sqs{}, steps{};
  };
  Group& group_of(const OptimizerPiece& piece);

  AdamWOptions options_;
  std::vector<OptimizerPiece> pieces_;
  std::vector<at::Tensor> exp_avg_, exp_avg_sq_;  // fp32 [count], a piece
  at::Tensor step_;                               // fp32 scalar that every group's kernel reads
  std::vector<Group> groups_;
  double grad_factor_ = 1;  // of the next step
};

/// adamw_torch_8bit: ft::adamw8bit_ on every parameter of at least 4096 elements, FusedAdamW on the smaller ones.
class BlockAdamW final : public Optimizer {
 public:
  BlockAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces);
  void step(double lr) override;
  std::vector<StateTensor> state() override;

 private:
  AdamWOptions options_;
  std::vector<OptimizerPiece> pieces_;  // the quantized ones that are not empty; the lists below are parallel
  std::vector<at::Tensor> masters_, grads_;
  std::vector<at::Tensor> exp_avgs_, exp_avg_sqs_;              // uint8 [count]
  std::vector<at::Tensor> exp_avg_scales_, exp_avg_sq_scales_;  // fp32 [ceil(count / 256)]
  std::vector<double> lrs_, weight_decays_;
  FusedAdamW small_;
};

/// Parameters of fewer elements keep fp32 state (bitsandbytes' and torchao's limit).
inline constexpr int64_t kSmallestQuantized = 4096;

}  // namespace ft
