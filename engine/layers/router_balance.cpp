#include "engine/layers/router_balance.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include "engine/error/error.h"

namespace ft {

size_t RouterBalance::add_layer() {
  layers_.emplace_back();
  return layers_.size() - 1;
}

void RouterBalance::note(size_t layer, const at::Tensor& counts, const at::Tensor& probabilities) {
  layers_[layer] = {counts.to(at::kDouble), probabilities.detach().sum(0, /*keepdim=*/false, at::kDouble),
                    probabilities.size(0)};
}

at::Tensor RouterBalance::settle(const at::Tensor& targets, double scale, const Sum& sum) {
  FT_CHECK(!layers_.empty() && layers_.front().counts.defined(), "a router's balance is settled after a forward");
  at::Tensor counts = layers_.front().counts, probabilities = layers_.front().probabilities;
  int64_t tokens = layers_.front().tokens;
  for (size_t i = 1; i < layers_.size(); ++i) {
    counts = counts.add(layers_[i].counts);
    probabilities = probabilities.add(layers_[i].probabilities);
    tokens += layers_[i].tokens;
  }
  const int64_t experts = counts.size(0);
  const at::Tensor trained = targets.to(counts.device()).ne(-100).sum().to(at::kDouble).reshape({1});
  const at::Tensor all = at::cat({counts, at::full({1}, static_cast<double>(tokens), counts.options()), trained});
  sum(all);
  const at::Tensor rows = all.narrow(0, experts, 1);
  const at::Tensor weight = all.narrow(0, experts + 1, 1).mul(coefficient_ * scale * static_cast<double>(experts));
  const at::Tensor grad = all.narrow(0, 0, experts).mul(weight).div(rows.mul(rows));
  grad_ = grad.to(at::kFloat);
  return grad.mul(probabilities).sum();  // at::dot knows no tensors of no memory
}

}  // namespace ft
