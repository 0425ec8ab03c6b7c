// LibTorch's own ops that layers use and that have no meta kernel in C++ (Python brings theirs): results of the same
// sizes, for a step that is only imagined.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>

namespace ft::meta {
namespace {

at::Tensor index_select(const at::Tensor& self, int64_t dim, const at::Tensor& index) {
  auto sizes = self.sizes().vec();
  sizes.at(static_cast<size_t>(dim < 0 ? dim + self.dim() : dim)) = index.numel();
  return at::empty(sizes, self.options());
}

using Norm = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using Optional = const std::optional<at::Tensor>&;

Norm native_layer_norm(const at::Tensor& x, at::IntArrayRef shape, Optional, Optional, double) {
  auto rows = x.sizes().vec();
  std::fill(rows.end() - static_cast<std::ptrdiff_t>(shape.size()), rows.end(), 1);
  return {at::empty(x.sizes(), x.options()), at::empty(rows, x.options()), at::empty(rows, x.options())};
}

Norm native_layer_norm_backward(const at::Tensor&, const at::Tensor& x, at::IntArrayRef shape, const at::Tensor&,
                                const at::Tensor&, Optional, Optional, std::array<bool, 3> wanted) {
  const auto made = [&](size_t which, at::IntArrayRef sizes) {
    return wanted[which] ? at::empty(sizes, x.options()) : at::Tensor();
  };
  return {made(0, x.sizes()), made(1, shape), made(2, shape)};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, Meta, m) {
  m.impl("index_select", index_select);
  m.impl("native_layer_norm", native_layer_norm);
  m.impl("native_layer_norm_backward", native_layer_norm_backward);
}

}  // namespace ft::meta
