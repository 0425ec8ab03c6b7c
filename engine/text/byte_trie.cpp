#include "engine/text/byte_trie.h"

namespace ft {

void ByteTrie::insert(std::string_view key, int32_t value) {
  uint32_t node = kRoot;
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t next = step(node, byte);
    if (next == kNone) {
      if (2 * values_.size() >= edges_.size()) grow();
      next = static_cast<uint32_t>(values_.size());
      values_.push_back(kNoValue);
      const uint64_t edge = static_cast<uint64_t>(node) << 8 | byte;
      size_t at = slot(edge);
      while (edges_[at].key != kFree) at = (at + 1) & (edges_.size() - 1);
      edges_[at] = {edge, next};
    }
    node = next;
  }
  values_[node] = value;
}

int32_t ByteTrie::find(std::string_view key) const {
  uint32_t node = kRoot;
  for (const char c : key) {
    node = step(node, static_cast<unsigned char>(c));
    if (node == kNone) return kNoValue;
  }
  return values_[node];
}

void ByteTrie::grow() {
  std::vector<Edge> old(2 * edges_.size());
  old.swap(edges_);
  for (const Edge& edge : old) {
    if (edge.key == kFree) continue;
    size_t at = slot(edge.key);
    while (edges_[at].key != kFree) at = (at + 1) & (edges_.size() - 1);
    edges_[at] = edge;
  }
}

}  // namespace ft
