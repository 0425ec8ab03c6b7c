#pragma once
/// What the tiny decoder learns: rows of random tokens, alike on every layout.

#include "engine/data/batch.h"
#include "engine/tensor/counter_random.h"

namespace ft::test {

inline constexpr int64_t kLength = 24, kVocab = 97;

// Row `row` of one of two batches that come in turn: two documents of random tokens, all of them learnt.
inline Batch one_row(int64_t batch, int64_t row) {
  const CounterRandom random(static_cast<uint64_t>(7 + batch), "tokens");
  const int64_t first = 9 + 2 * row;  // documents of different lengths, so that ranks hold different numbers of targets
  Batch made;
  made.rows = 1;
  made.length = kLength;
  made.documents = {{first, kLength - first}};
  made.row_ids = {row};
  for (int64_t t = 0; t < kLength; ++t) {
    const auto token = [&](int64_t at) {
      return static_cast<int64_t>(random.below(static_cast<uint64_t>(row * kLength + at), kVocab));
    };
    const bool last = t == first - 1 || t == kLength - 1;
    made.tokens.push_back(token(t));
    made.positions.push_back(t < first ? t : t - first);
    made.targets.push_back(last || (row == 1 && t < 5) ? -100 : token(t + 1));
    made.num_targets += made.targets.back() != -100;
  }
  return made;
}

}  // namespace ft::test
