#include "engine/train/base_model.h"

namespace ft {

std::unique_ptr<ModelDirectory> open_base(const Value& model) {
  const Value* dir = model.find("dir");
  if (!dir || !dir->is_string()) return nullptr;
  auto directory = std::make_unique<ModelDirectory>(dir->as_string());
  if (const Value* grown = model.find("grown"); grown && grown->is_map()) directory->grow(Growth::read(*grown));
  return directory;
}

}  // namespace ft
