#pragma once
/// Muon (K. Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024; torch.optim.Muon) for the hidden
/// matrices, AdamW for the rest (embedding, head, vectors). Momentum is sharded like the masters. For the
/// orthogonalisation a matrix that ranks share meets whole on one of them, and the result is told to the others; one
/// that a single rank owns stays there. Built by build_optimizer alone; step() is collective.

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/optim/optimizer_options.h"
#include "engine/optim/piece_map.h"

namespace ft {

/// The quintic Newton–Schulz iteration of torch.optim.Muon (coefficients 3.4445, −4.7750, 2.0315), in fp32 where torch
/// uses bf16: brings the singular values near to 1.   @param x [R, C] fp32   @return [R, C] fp32
at::Tensor newton_schulz(const at::Tensor& x, int64_t steps, double eps);

class Muon final : public Optimizer {
 public:
  Muon(const OptimizerOptions& options, std::vector<OptimizerPiece> pieces, ProcessGroup* group);
  void step(double lr) override;
  std::vector<StateTensor> state() override;

  /// Whether it orthogonalises the updates of a parameter.
  static bool takes(const OptimizerPiece& piece) { return piece.hidden && piece.shape.size() == 2; }
  /// The most bytes that step() takes for a while. Reads shape, numel, count and hidden.
  static int64_t step_bytes(const std::vector<OptimizerPiece>& pieces);

 private:
  struct Update {  // one matrix of a window
    size_t index;
    int worker;        // the rank that orthogonalises it
    at::Tensor whole;  // fp32 [numel], on the ranks that take part
  };
  void step_window(double lr, size_t begin, size_t end);
  std::vector<Update> share_out(size_t begin, size_t end) const;
  void gather(std::vector<Update>& updates);
  void apply(double lr, const Update& update);
  at::Tensor direction(size_t index) const;
  int rank() const { return group_ ? group_->rank() : 0; }

  MuonOptions options_;
  ProcessGroup* group_;
  std::vector<OptimizerPiece> pieces_;  // the matrices
  std::vector<at::Tensor> buffers_;     // fp32 [count], a piece
  PieceMap map_;
  std::unique_ptr<Optimizer> rest_;
};

}  // namespace ft
