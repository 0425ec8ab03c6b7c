#pragma once
/// The low-rank term of the head's logits (LoRA on the head), chunk by chunk, and its gradients: what the loss's CPU
/// and CUDA kernels share. Header-only, since the CUDA plugin links none of the engine's libraries.

#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace ft {

class LowRankLogits {
 public:
  /// @param low [.., r], up [V, r] or neither   @param dtype of the logits   @param want_gradients in low's dtype, and
  /// in fp32 of up
  LowRankLogits(const std::optional<at::Tensor>& low, const std::optional<at::Tensor>& up, at::ScalarType dtype,
                bool want_gradients) {
    if (!low) return;
    sizes_ = low->sizes().vec();
    low_ = low->reshape({-1, low->size(-1)});
    up_ = up->to(dtype);
    if (!want_gradients) return;
    low_grad_ = at::zeros_like(low_);
    up_grad_ = at::zeros(up->sizes(), up->options().dtype(at::kFloat));
  }

  /// logits += low·upᵀ for the rows of a chunk.
  void add_to(at::Tensor& logits, const at::Tensor& rows) const {
    if (low_.defined()) logits.addmm_(low_.index_select(0, rows), up_.t());
  }
  /// @param grads of the chunk's logits   @param add_product (sum, a, b): sum += aᵀ·b, sum fp32
  template <class AddProduct>
  void backward(const at::Tensor& grads, const at::Tensor& rows, const AddProduct& add_product) {
    if (!low_grad_.defined()) return;
    low_grad_.index_copy_(0, rows, at::mm(grads, up_));
    add_product(up_grad_, grads, low_.index_select(0, rows));
  }
  /// Undefined where not wanted, as up_grad.
  at::Tensor low_grad() const { return low_grad_.defined() ? low_grad_.view(sizes_) : low_grad_; }
  const at::Tensor& up_grad() const { return up_grad_; }

 private:
  std::vector<int64_t> sizes_;
  at::Tensor low_, up_, low_grad_, up_grad_;
};

}  // namespace ft
