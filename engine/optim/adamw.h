#pragma once
/// AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019) with fp32 or block-wise 8-bit state, on
/// the device of the pieces. Built by build_optimizer alone; no rank meets another.

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/optim/optimizer_options.h"

namespace ft {

/// ATen's fused kernel on fp32 state.
class FusedAdamW final : public ElementwiseOptimizer {
 public:
  FusedAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces);
  bool scale_gradients(double factor) override;
  void begin_step(double lr) override;
  void step_pieces(size_t first, size_t count) override;
  std::vector<StateTensor> state() override;

 private:
  AdamWOptions options_;
  std::vector<OptimizerPiece> pieces_;
  std::vector<at::Tensor> exp_avg_, exp_avg_sq_;  // fp32 [count], a piece
  at::Tensor step_;                               // fp32 scalar that the kernel reads
  double grad_factor_ = 1;                        // of the next step
  std::optional<at::Tensor> grad_scale_;          // of this step: what the kernel divides gradients by
};

/// adamw_torch_8bit: ft::adamw8bit_ on every parameter of at least 4096 elements, FusedAdamW on the smaller ones.
class BlockAdamW final : public ElementwiseOptimizer {
 public:
  BlockAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces);
  void begin_step(double lr) override;
  void step_pieces(size_t first, size_t count) override;
  std::vector<StateTensor> state() override;

 private:
  AdamWOptions options_;
  std::vector<size_t> numbers_, small_numbers_;  // which of all pieces are quantized, and which are not
  std::vector<OptimizerPiece> pieces_;           // the quantized ones that are not empty; the lists below are parallel
  std::vector<at::Tensor> masters_, grads_;
  std::vector<at::Tensor> exp_avgs_, exp_avg_sqs_;              // uint8 [count]
  std::vector<at::Tensor> exp_avg_scales_, exp_avg_sq_scales_;  // fp32 [ceil(count / 256)]
  std::vector<double> lrs_, weight_decays_;
  FusedAdamW small_;
};

/// Parameters of fewer elements keep fp32 state (bitsandbytes' and torchao's limit).
inline constexpr int64_t kSmallestQuantized = 4096;

}  // namespace ft
