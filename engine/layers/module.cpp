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

Parameter& Module::add_parameter(Parameter parameter) {
  order_.push_back({std::make_unique<Parameter>(std::move(parameter)), nullptr});
  return *order_.back().parameter;
}

}  // namespace ft
