#include "engine/data/sequence_split.h"

#include <algorithm>
#include <string>

#include "engine/data/batch.h"
#include "engine/data/token_rows.h"
#include "engine/error/error.h"

namespace ft {
namespace {

// The values of this rank's chunks. @param whole [rows, length of `from`], rows filled up to the split's length
std::vector<int64_t> part(const std::vector<int64_t>& whole, const SequenceSplit& split, int64_t from, int64_t fill) {
  const int64_t rows = from == 0 ? 0 : static_cast<int64_t>(whole.size()) / from, own = 2 * split.chunk();
  std::vector<int64_t> values;
  values.reserve(static_cast<size_t>(rows * own));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t t = 0; t < own; ++t) {
      const int64_t place = split.place(t);
      values.push_back(place < from ? whole[static_cast<size_t>(row * from + place)] : fill);
    }
  return values;
}

}  // namespace

Batch split_batch(Batch whole, int64_t index, int64_t size, int64_t pad_id) {
  FT_CHECK(size >= 1 && index >= 0 && index < size,
           "split_batch: rank " + std::to_string(index) + " of " + std::to_string(size) + " along the context axis");
  if (size == 1) return whole;
  const int64_t from = whole.length, multiple = 2 * size;
  const SequenceSplit split{index, size, std::max(multiple, (from + multiple - 1) / multiple * multiple)};
  Batch own;
  own.rows = whole.rows;
  own.length = 2 * split.chunk();
  own.split = split;
  own.tokens = part(whole.tokens, split, from, pad_id);
  own.targets = part(whole.targets, split, from, kIgnoreLabel);
  own.positions = part(whole.positions, split, from, 0);
  own.documents = std::move(whole.documents);
  own.row_ids = std::move(whole.row_ids);
  own.num_targets = std::count_if(own.targets.begin(), own.targets.end(), [](int64_t t) { return t != kIgnoreLabel; });
  if (split.length == from) return own;
  for (auto& row : own.documents) row.push_back(split.length - from);
  for (int64_t row = 0; row < own.rows; ++row)
    for (int64_t t = 0; t < own.length; ++t)
      if (const int64_t place = split.place(t); place >= from)
        own.positions[static_cast<size_t>(row * own.length + t)] = place - from;
  return own;
}

}  // namespace ft
