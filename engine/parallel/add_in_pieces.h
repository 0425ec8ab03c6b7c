#pragma once
/// Sums in fp32 of tensors in half precision, without the copy of the whole that LibTorch makes. Called by shards for
/// their gradients and by the head's loss. Any thread; not collective.

#include <ATen/core/Tensor.h>

namespace ft {

/// `into` += `flat`, element by element in the dtype of `into`.   @param into, flat contiguous, [n]
void add_in_pieces(const at::Tensor& into, const at::Tensor& flat);

}  // namespace ft
