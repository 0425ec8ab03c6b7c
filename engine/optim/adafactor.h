#pragma once
/// Adafactor (Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018) as
/// transformers' Adafactor with relative_step = False: of a matrix's second average it keeps row and column means
/// alone. Ranks that share a matrix add their row and column sums, and the sums of squares that clipping looks at, in
/// fp64. Built by build_optimizer alone; step() is collective.

#include <ATen/core/Tensor.h>

#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/optim/optimizer_options.h"
#include "engine/optim/piece_map.h"

namespace ft {

class Adafactor final : public Optimizer {
 public:
  Adafactor(const AdafactorOptions& options, std::vector<OptimizerPiece> pieces, ProcessGroup* group);
  void step(double lr) override;
  std::vector<StateTensor> state() override;

  static bool factors(const OptimizerPiece& piece) { return piece.shape.size() == 2; }
  /// The most bytes that step() takes for a while. Reads count.
  static int64_t step_bytes(const std::vector<OptimizerPiece>& pieces);

 private:
  struct State {
    at::Tensor row, col;    // fp32 [R] and [C], whole on every rank that owns a part of the matrix
    at::Tensor exp_avg_sq;  // fp32 [count], of what is not factored
    at::Tensor exp_avg;     // fp32 [count], with beta1
  };
  void update_averages(double beta2);
  at::Tensor direction(size_t index) const;
  void sum_over_ranks(const at::Tensor& sums) const;

  AdafactorOptions options_;
  ProcessGroup* group_;
  std::vector<OptimizerPiece> pieces_;
  PieceMap map_;
  std::vector<State> states_;
};

}  // namespace ft
