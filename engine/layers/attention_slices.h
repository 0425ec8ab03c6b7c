#pragma once
/// What attention multiplies with what: stretches of queries and the stretches of keys that they may see, all inside
/// one document. Worked out on the host from lengths alone, once a call; read by the kernels of each device. A rank of
/// a context group holds two chunks of every row, so its queries meet the keys of every rank in pairs of chunks.

#include <ATen/core/ATen_fwd.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/data/sequence_split.h"
#include "engine/error/error.h"

namespace ft {

/// Every query of a slice sees at least one of its keys.
struct AttentionSlice {
  int64_t row = 0, rows = 1;       ///< rows of the batch in which the slice is the same
  int64_t query = 0, queries = 0;  ///< first query as the tensor of queries counts the tokens of a row, and how many
  int64_t key = 0, keys = 0;       ///< the same of the keys
  int64_t ahead = 0;               ///< place of the first query in its row, less that of the first key
  int64_t window = 0;  ///< keys that a query sees, its own among them; 0: all of those that are not behind it

  /// As many queries as keys from the same place on: a query sees the keys up to its own.
  bool causal() const { return window == 0 && ahead == 0; }

  static constexpr int64_t kNumbers = 8;
  /// As the dispatcher passes them: kNumbers integers a slice.
  static std::vector<int64_t> pack(const std::vector<AttentionSlice>& slices);
  static std::vector<AttentionSlice> unpack(at::IntArrayRef numbers);  // inline: the CUDA plugin has no more of this
};

inline std::vector<AttentionSlice> AttentionSlice::unpack(at::IntArrayRef numbers) {
  FT_CHECK(numbers.size() % kNumbers == 0, "attention slices come as " + std::to_string(kNumbers) + " numbers each");
  std::vector<AttentionSlice> slices;
  slices.reserve(numbers.size() / kNumbers);
  for (size_t i = 0; i < numbers.size(); i += kNumbers)
    slices.push_back({numbers[i], numbers[i + 1], numbers[i + 2], numbers[i + 3], numbers[i + 4], numbers[i + 5],
                      numbers[i + 6], numbers[i + 7]});
  return slices;
}

/// All slices of rows that are whole.
/// @param documents lengths in order, row after row; each row's sum to `tokens`   @throws Error(shape)
std::vector<AttentionSlice> document_slices(int64_t rows, int64_t tokens, at::IntArrayRef documents, int64_t window);

/// The slices of this rank's queries and rank `source`'s keys.
/// @param documents of each whole row   @param mine this rank's part   @throws Error(shape)
std::vector<AttentionSlice> slices_between(const std::vector<std::vector<int64_t>>& documents,
                                           const SequenceSplit& mine, int64_t source, int64_t window);

}  // namespace ft
