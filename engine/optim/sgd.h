#pragma once
/// Gradient descent with momentum, Nesterov's and weight decay, as torch.optim.SGD has them (no dampening); and Lion.
/// Built by build_optimizer alone; no rank meets another. The parity gates use Sgd: unlike AdamW it shows a gradient
/// that is scaled wrongly.

#include <ATen/core/Tensor.h>

#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/optim/optimizer_options.h"

namespace ft {

class Sgd final : public ElementwiseOptimizer {
 public:
  Sgd(const SgdOptions& options, std::vector<OptimizerPiece> pieces);
  void step_pieces(size_t first, size_t count) override;
  std::vector<StateTensor> state() override;

 private:
  SgdOptions options_;
  std::vector<OptimizerPiece> pieces_;
  std::vector<at::Tensor> buffers_;  // fp32 [count], a piece; empty without momentum
};

/// Lion (Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023): the sign of an average, decoupled decay.
class Lion final : public ElementwiseOptimizer {
 public:
  Lion(const LionOptions& options, std::vector<OptimizerPiece> pieces);
  void step_pieces(size_t first, size_t count) override;
  std::vector<StateTensor> state() override;

 private:
  LionOptions options_;
  std::vector<OptimizerPiece> pieces_;
  std::vector<at::Tensor> exp_avg_;  // fp32 [count], a piece
};

}  // namespace ft
