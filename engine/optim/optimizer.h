#pragma once
/// Optimizers over a rank's own pieces of the parameters: fp32 masters and gradients in, masters out, on the pieces'
/// device. What is computed for an element does not depend on how tensors are cut into pieces (at multiples of 256) nor
/// on the number of threads, so every layout trains alike to the bit; Adafactor and Muon, which look at whole matrices,
/// meet the other ranks for them and agree to fp32 rounding. Built and called by train/.
///
/// Rank rule: build_optimizer, step() and resumed() are collective; every rank names the same parameters in the same
/// order, with empty pieces of those that it owns nothing of. Thread rule: one thread calls, kernels use ATen's pool.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

class ProcessGroup;

/// One rank-local piece of a parameter: a contiguous range of the flattened tensor.
struct OptimizerPiece {
  std::string name;   ///< of the parameter
  int64_t numel = 0;  ///< of the whole parameter, on all ranks
  int64_t begin = 0;  ///< first element in the flattened parameter; a multiple of 256
  int64_t count = 0;  ///< elements of the piece; a multiple of 256 unless the piece ends its parameter. May be 0
  at::Tensor master;  ///< fp32 [count], a contiguous view that step() updates in place; may be undefined for count 0
  at::Tensor grad;    ///< fp32 [count], a contiguous view; read, never changed
  bool decay = true;  ///< weight decay acts on it
  std::vector<int64_t> shape{};  ///< of the whole parameter; empty: a vector of `numel`
  bool hidden = false;      ///< stands between embedding and head, where Muon orthogonalises the updates of matrices
  int64_t whole_numel = 0;  ///< where the parameter is the slice that a tensor rank has: of the whole; else 0
  bool cut = false;         ///< several ranks own parts of it

  /// What the optimizer's groups make of it; build_optimizer sets both.
  double lr_scale = 1;      ///< times the step's learning rate
  double weight_decay = 0;  ///< 0 where `decay` is false and no group says otherwise
};

/// One named tensor of an optimizer's state, for checkpoints: a range of a vector that runs along the flattened
/// parameter.
struct StateTensor {
  std::string name;  ///< of the parameter
  std::string key;   ///< "exp_avg", "exp_avg_scale", "exp_avg_sq", "exp_avg_sq_scale", "momentum_buffer", …
  at::Tensor value;  ///< the optimizer's own storage, fp32 or uint8 [count]: read it to save, copy into it to resume
  int64_t begin = 0, count = 0;    ///< in entries of the whole vector
  int64_t elements_per_entry = 1;  ///< 256 for the scales of 8-bit state; the last block of a parameter may be short
  bool saved = true;               ///< false: another rank holds the same and saves it; reading is everybody's
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  /// Has the next step() multiply gradients by `factor` in its own pass over them. @return false from an optimizer that
  /// leaves it to the caller.
  virtual bool scale_gradients([[maybe_unused]] double factor) { return false; }
  /// Applies the gradients as they are (already clipped by the caller) at this learning rate, and counts the step.
  virtual void step(double lr) = 0;
  /// Every state tensor of every piece that is not empty, in one order.
  virtual std::vector<StateTensor> state() = 0;
  /// Bytes of this rank's state.
  int64_t state_bytes();

  int64_t steps = 0;  ///< taken so far; Adam's bias correction reads it, so resuming sets it
};

/// An optimizer that looks at each element alone, so that no rank meets another in its step, which can be taken in
/// parts: begin_step, then step_pieces of every piece once, in any order, on any one thread at a time.
class ElementwiseOptimizer : public Optimizer {
 public:
  void step(double lr) final {
    begin_step(lr);
    step_pieces(0, num_pieces_);
  }
  /// Counts the step.
  virtual void begin_step(double lr) {
    ++steps;
    lr_ = lr;
  }
  /// Applies the gradients of pieces [first, first + count) of those that build_optimizer was given.
  virtual void step_pieces(size_t first, size_t count) = 0;
  size_t num_pieces() const { return num_pieces_; }

 protected:
  explicit ElementwiseOptimizer(size_t num_pieces) : num_pieces_(num_pieces) {}
  double lr_ = 0;  // of the step

 private:
  size_t num_pieces_;
};

/// Builds the optimizer that a resolved plan's `optimizer` block describes (defaults:
/// engine/optim/optimizer_options.h):
///   { kind = "adamw", lr, betas, eps, weight_decay, bits = 32 | 8 }
///   { kind = "sgd", lr, momentum, nesterov, weight_decay }
///   { kind = "lion", lr, betas, weight_decay }
///   { kind = "adafactor", lr, eps = {1e-30, 1e-3}, clip_threshold, decay_rate, beta1, weight_decay, scale_parameter }
///   { kind = "muon", lr, momentum, nesterov, weight_decay, ns_steps, eps, adjust_lr_fn, adamw_lr, adamw_betas,
///     adamw_eps, bits }
/// and `groups` (parameter_groups.h). bits = 32 is ATen's fused AdamW. bits = 8 is adamw_torch_8bit: both averages as
/// 8-bit codes of the dynamic maps with one fp32 scale a block of 256; a parameter of fewer than 4096 elements keeps
/// fp32 state, whatever part of it this rank owns.
/// @param group the ranks that own the pieces; null: one rank alone. Outlives the optimizer.
/// @throws Error(config) for an unknown kind, wrong bits, values out of range or a pattern that names no parameter;
/// Error(internal) for pieces off the grid.
std::unique_ptr<Optimizer> build_optimizer(const Value& description, std::vector<OptimizerPiece> pieces,
                                           ProcessGroup* group = nullptr);

/// Bytes of state that a piece will need: what a plan prints. Reads name, shape, numel, count and hidden.
int64_t optimizer_state_bytes(const Value& description, const OptimizerPiece& piece);
/// Bytes that a step takes for a while beside the state, where the optimizer looks at whole matrices. Reads the same.
int64_t optimizer_step_bytes(const Value& description, const std::vector<OptimizerPiece>& pieces);

}  // namespace ft
