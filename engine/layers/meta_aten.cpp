// LibTorch's own ops that layers use and that have no meta kernel in C++ (Python brings theirs): results of the same
// sizes, for a step that is only imagined.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

namespace ft::meta {
namespace {

at::Tensor index_select(const at::Tensor& self, int64_t dim, const at::Tensor& index) {
  auto sizes = self.sizes().vec();
  sizes.at(static_cast<size_t>(dim < 0 ? dim + self.dim() : dim)) = index.numel();
  return at::empty(sizes, self.options());
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, Meta, m) { m.impl("index_select", index_select); }

}  // namespace ft::meta
