#include <string>

#include "engine/formats/pickle.h"

namespace ft {

const PickleNode* PickleNode::find(std::string_view key) const {
  if (kind != Kind::dict) return nullptr;
  for (size_t i = items.size(); i >= 2; i -= 2)
    if (items[i - 2]->kind == Kind::text && items[i - 2]->text == key) return items[i - 1];
  return nullptr;
}

std::string describe(const PickleNode& node) {
  using Kind = PickleNode::Kind;
  constexpr size_t kMost = 60;
  switch (node.kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return node.truth ? "True" : "False";
    case Kind::integer:
      return "integer " + std::to_string(node.integer);
    case Kind::big_integer:
      return "an integer beyond 64 bits";
    case Kind::number:
      return "number " + std::to_string(node.number);
    case Kind::text:
      return "text '" + std::string(node.text.substr(0, kMost)) + (node.text.size() > kMost ? "…'" : "'");
    case Kind::bytes:
      return std::to_string(node.text.size()) + " bytes";
    case Kind::list:
      return "a list of " + std::to_string(node.items.size());
    case Kind::tuple:
      return "a tuple of " + std::to_string(node.items.size());
    case Kind::set:
      return "a set of " + std::to_string(node.items.size());
    case Kind::dict:
      return "a dict of " + std::to_string(node.items.size() / 2);
    case Kind::global:
      return std::string(node.text);
    case Kind::call:
      return "a call of " + std::string(node.text);
    case Kind::persistent:
      return "a storage";
  }
  return "";
}

}  // namespace ft
