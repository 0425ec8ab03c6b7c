#include "engine/layers/module.h"

namespace ft {

std::vector<Parameter*> Module::parameters() {
  std::vector<Parameter*> all;
  for (Node& node : order_) {
    if (node.parameter) {
      all.push_back(node.parameter.get());
    } else {
      const auto below = node.child->parameters();
      all.insert(all.end(), below.begin(), below.end());
    }
  }
  return all;
}

Parameter& Module::add_parameter(std::string name, std::vector<int64_t> shape, Storage storage, const Init& init,
                                 const TensorSlice& slice) {
  auto parameter = std::make_unique<Parameter>();
  parameter->name = std::move(name);
  parameter->shape = std::move(shape);
  parameter->storage = storage;
  parameter->init = init;
  parameter->slice = slice;
  order_.push_back({std::move(parameter), nullptr});
  return *order_.back().parameter;
}

}  // namespace ft
