#pragma once
/// AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019) with fp32 or block-wise 8-bit state.
/// Built by build_optimizer alone.

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/optim/update_kernels.h"

namespace ft {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
};

/// ATen's fused kernel on fp32 state.
class FusedAdamW final : public Optimizer {
 public:
  FusedAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces);
  void step(double lr) override;
  std::vector<StateTensor> state() override;

 private:
  struct Group {  // what one call of the kernel takes
    std::vector<at::Tensor> masters, grads, exp_avgs, exp_avg_sqs, steps;
  };
  AdamWOptions options_;
  std::vector<OptimizerPiece> pieces_;
  std::vector<at::Tensor> exp_avg_, exp_avg_sq_;  // fp32 [count], a piece
  at::Tensor step_;                               // fp32 scalar that every group's kernel reads
  Group with_decay_, without_decay_;
};

/// adamw_torch_8bit: one pass over memory, a block of 256 at a time, over all pieces in parallel.
class BlockAdamW final : public Optimizer {
 public:
  BlockAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces);
  void step(double lr) override;
  std::vector<StateTensor> state() override;

 private:
  struct Piece {
    OptimizerPiece description;
    bool quantized;                              // else the averages are fp32 and the scales undefined
    at::Tensor exp_avg, exp_avg_sq;              // uint8 or fp32 [count]
    at::Tensor exp_avg_scale, exp_avg_sq_scale;  // fp32 [ceil(count / 256)]
  };
  struct Chunk {  // a thread's unit of work
    size_t piece;
    int64_t first, count;
  };
  void update_chunk(const Chunk& chunk, const update::AdamW& step) const;

  AdamWOptions options_;
  std::vector<Piece> pieces_;
  std::vector<Chunk> chunks_;
};

/// Parameters of fewer elements keep fp32 state (bitsandbytes' and torchao's limit).
inline constexpr int64_t kSmallestQuantized = 4096;

}  // namespace ft
