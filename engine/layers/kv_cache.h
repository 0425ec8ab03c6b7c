#pragma once
/// Keys and values of the tokens decoded so far, for a batch of prompts of different lengths. Rows are filled from the
/// left and have lengths of their own: prompts come padded on the right, their padding is written but never counted,
/// and the next token overwrites it. The caller sets Context.cache and positions (lengths()[row] + t), runs all units,
/// then calls advance() once. One thread.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/layers/attention.h"

namespace ft {

class KvCache {
 public:
  /// @param capacity most tokens of a row, prompt and answer together.
  KvCache(int64_t rows, int64_t capacity) : lengths_(static_cast<size_t>(rows), 0), capacity_(capacity) {}

  /// Attention of T new tokens a row over the row's cached ones and themselves; appends the new keys and values.
  /// @param layer module path that keeps this layer's entry apart
  /// @param q [B, T, H, D]   @param k,v [B, T, Hkv, D]   @return [B, T, H, D]
  /// @throws Error(shape) when a row would outgrow the capacity by counted tokens.
  at::Tensor attend(const std::string& layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const ScoreOptions& options = {});
  /// Counts the first counts[row] of the tokens just run as decoded.
  void advance(const std::vector<int64_t>& counts);
  const std::vector<int64_t>& lengths() const { return lengths_; }
  /// int64 [B, T]: positions of the next T tokens of each row.
  at::Tensor next_positions(int64_t tokens) const;

 private:
  struct Layer {
    at::Tensor k, v;  // [B, capacity, Hkv, D]
  };
  at::Tensor seen(int64_t tokens, int64_t keys, int64_t window) const;

  std::vector<int64_t> lengths_;
  int64_t capacity_;
  std::map<std::string, Layer> layers_;
};

}  // namespace ft
