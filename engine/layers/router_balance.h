#pragma once
/// The auxiliary loss that keeps experts equally busy (Fedus et al., "Switch Transformers", 2022, equations 4 to 6, as
/// transformers' load_balancing_loss_func): coefficient · E · Σ over experts of (tokens that chose it, a mean) · (its
/// probability, a mean), means over the tokens of all layers with experts and of all ranks. It multiplies sums over
/// layers, while a layer's backward stands alone: layers note what they chose, settle() adds up between forward and
/// backward, and every token's probabilities then get the same gradient. One per model, where output_router_logits
/// asks for it. Thread rule: the schedule's thread; grad() also from autograd's, which reads.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace ft {

class RouterBalance {
 public:
  explicit RouterBalance(double coefficient) : coefficient_(coefficient) {}

  /// One more layer with experts. @return its place
  size_t add_layer();
  /// What a layer chose in the forward of this micro batch; again, with the same values, where it is run again.
  /// @param counts int64 [E]: tokens that go to each expert   @param probabilities fp32 [N, E]
  void note(size_t layer, const at::Tensor& counts, const at::Tensor& probabilities);

  /// Adds a tensor up over the ranks that have other tokens, in place.
  using Sum = std::function<void(const at::Tensor&)>;
  /// After the forward of a micro batch, before its backward. Collective, if `sum` is.
  /// The loss weighs as much as the micro batch's trained tokens do: scale · their number times what transformers adds.
  /// @param targets -100 where there is nothing to learn   @return this rank's part of it, a scalar in fp64
  at::Tensor settle(const at::Tensor& targets, double scale, const Sum& sum);
  /// fp32 [E]: the gradient of every token's probabilities in every layer, since the last settle().
  const at::Tensor& grad() const { return grad_; }

 private:
  struct Layer {
    at::Tensor counts, probabilities;  // fp64 [E] sums over this rank's tokens
    int64_t tokens = 0;
  };
  double coefficient_;
  std::vector<Layer> layers_;
  at::Tensor grad_;
};

}  // namespace ft
