#include "engine/formats/saved_state.h"

#include "engine/error/error.h"

namespace ft {

int64_t SavedState::Tensor::numel() const {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  return count;
}

const SavedState::Tensor* SavedState::find(const std::string& name, const std::string& kind) const {
  const auto found = index_.find({name, kind});
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

std::pair<size_t, bool> SavedState::add(Tensor tensor) {
  const auto [found, is_new] = index_.try_emplace({tensor.name, tensor.kind}, tensors_.size());
  if (is_new) tensors_.push_back(std::move(tensor));
  return {found->second, is_new};
}

size_t SavedState::number_of(const std::string& name, const std::string& kind) const {
  const auto found = index_.find({name, kind});
  if (found == index_.end())
    throw Error(ErrorKind::format, "holds no '" + kind + "' of this tensor").at(path_.string()).key(name);
  return found->second;
}

}  // namespace ft
