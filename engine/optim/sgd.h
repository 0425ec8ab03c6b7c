#pragma once
/// Plain gradient descent, with momentum as torch.optim.SGD has it (no dampening, no decay). Built by build_optimizer
/// alone. The parity gates use it: unlike AdamW it shows a gradient that is scaled wrongly.

#include <ATen/core/Tensor.h>

#include <vector>

#include "engine/optim/optimizer.h"

namespace ft {

class Sgd final : public Optimizer {
 public:
  Sgd(double momentum, std::vector<OptimizerPiece> pieces);
  void step(double lr) override;
  std::vector<StateTensor> state() override;

 private:
  double momentum_;
  std::vector<OptimizerPiece> pieces_;
  std::vector<at::Tensor> buffers_;  // fp32 [count], a piece; empty without momentum
};

}  // namespace ft
