#pragma once
/// The loop of fold_lora, compiled once for each instruction set; fold.cpp chooses. Any thread.

#include <algorithm>
#include <cstdint>

#include "engine/merge/fold.h"

namespace ft {

void fold_lora_scalar(const FoldRange& range, float* weight);
void fold_lora_avx2(const FoldRange& range, float* weight);

namespace {

// A tile of a row: its sums stay in the first-level cache while r rows of A go by.
constexpr int64_t kTile = 1024;

[[maybe_unused]] void fold_tile(const FoldRange& range, const float* b, int64_t column, int64_t count, float* weight) {
  float sum[kTile];
  std::fill_n(sum, count, 0.f);
  for (int64_t k = 0; k < range.rank; ++k) {
    const float factor = b[k];
    const float* __restrict a = range.a + k * range.in + column;
    for (int64_t i = 0; i < count; ++i) sum[i] += factor * a[i];
  }
  const float scale = range.scale;
  for (int64_t i = 0; i < count; ++i) weight[i] += scale * sum[i];
}

[[maybe_unused]] void fold_rows(const FoldRange& range, float* weight) {
  const int64_t first_row = range.begin / range.in, end = range.begin + range.count;
  for (int64_t at = range.begin; at < end;) {
    const int64_t row = at / range.in, column = at % range.in;
    const int64_t count = std::min({kTile, range.in - column, end - at});
    fold_tile(range, range.b + (row - first_row) * range.rank, column, count, weight + (at - range.begin));
    at += count;
  }
}

}  // namespace
}  // namespace ft
