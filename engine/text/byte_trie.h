#pragma once
/// A set of strings with a number each, walked byte by byte: added tokens and Unigram's pieces. Used inside engine/text
/// only; const calls may come from many threads.

#include <cstdint>
#include <string_view>
#include <vector>

namespace ft {

class ByteTrie {
 public:
  static constexpr uint32_t kRoot = 0, kNone = UINT32_MAX;
  static constexpr int32_t kNoValue = -1;

  ByteTrie() : edges_(kFirstEdges), values_(1, kNoValue) {}

  /// @param value at least 0; takes the place of an earlier one of the same key
  void insert(std::string_view key, int32_t value);
  /// The node behind `byte`, or kNone.
  uint32_t step(uint32_t node, unsigned char byte) const {
    const uint64_t key = static_cast<uint64_t>(node) << 8 | byte;
    for (size_t at = slot(key);; at = (at + 1) & (edges_.size() - 1)) {
      if (edges_[at].key == key) return edges_[at].node;
      if (edges_[at].key == kFree) return kNone;
    }
  }
  /// The number of the string that ends at a node, or kNoValue.
  int32_t value(uint32_t node) const { return values_[node]; }
  int32_t find(std::string_view key) const;

 private:
  static constexpr uint64_t kFree = UINT64_MAX;
  static constexpr size_t kFirstEdges = 16;
  struct Edge {
    uint64_t key = kFree;
    uint32_t node = 0;
  };
  size_t slot(uint64_t key) const {
    constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;  // Fibonacci hashing
    return (key * kGolden >> 20) & (edges_.size() - 1);
  }
  void grow();

  std::vector<Edge> edges_;  ///< a hash table, at most half full
  std::vector<int32_t> values_;
};

}  // namespace ft
