#include "engine/layers/attention_slices.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>

namespace ft {
namespace {

// A document longer than the window is computed in chunks of queries with the keys that they can see: as many as the
// window, so that half of what is multiplied counts, but not so few that a GEMM is hardly more than its call.
constexpr int64_t kLeastChunk = 128;

void check_window(int64_t window) {
  if (window < 0)
    throw Error(ErrorKind::shape, "got a window of " + std::to_string(window) + ", want 0 (none) or more")
        .key("ft::attention");
}

// Queries [begin, begin + length) and keys from the same tokens.
void add_own(std::vector<AttentionSlice>& all, const AttentionSlice& whole, int64_t window) {
  if (window == 0 || whole.queries <= window) {
    all.push_back(whole);
    return;
  }
  const int64_t chunk = std::max(window, kLeastChunk);
  for (int64_t begin = 0; begin < whole.queries; begin += chunk) {
    const int64_t first_key = std::max<int64_t>(0, begin - window + 1), count = std::min(chunk, whole.queries - begin);
    AttentionSlice slice = whole;
    slice.query += begin;
    slice.queries = count;
    slice.key += first_key;
    slice.keys = begin + count - first_key;
    slice.ahead = begin - first_key;
    slice.window = window;
    all.push_back(slice);
  }
}

// Queries and keys of chunks of which the keys' comes first: `ahead` is at least the number of keys.
void add_earlier(std::vector<AttentionSlice>& all, AttentionSlice slice, int64_t window) {
  if (window == 0 || slice.ahead + slice.queries - 1 < window) {
    all.push_back(slice);
    return;
  }
  // Keys that the first query sees, and queries that see the last key.
  const int64_t unseen = std::max<int64_t>(0, slice.ahead - window + 1);
  if (unseen >= slice.keys) return;
  slice.key += unseen;
  slice.keys -= unseen;
  slice.ahead -= unseen;
  slice.queries = std::min(slice.queries, slice.keys + window - 1 - slice.ahead);
  slice.window = window;
  all.push_back(slice);
}

struct Stretch {
  int64_t begin = 0, end = 0;
  bool empty() const { return begin >= end; }
};

Stretch common(const Stretch& a, const Stretch& b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

// The slices of one document of a row. `row` has its row filled in.
void add_document(std::vector<AttentionSlice>& all, const Stretch& document, const SequenceSplit& mine,
                  const SequenceSplit& theirs, int64_t window, int64_t row) {
  const int64_t chunk = mine.chunk();
  const std::array query_chunks{mine.head(), mine.tail()}, key_chunks{theirs.head(), theirs.tail()};
  for (size_t a = 0; a < 2; ++a)
    for (size_t b = 0; b < 2; ++b) {
      const Stretch queries = common(document, {query_chunks[a], query_chunks[a] + chunk});
      const Stretch keys = common(document, {key_chunks[b], key_chunks[b] + chunk});
      if (queries.empty() || keys.empty() || key_chunks[b] > query_chunks[a]) continue;
      AttentionSlice slice;
      slice.row = row;
      slice.query = queries.begin - query_chunks[a] + static_cast<int64_t>(a) * chunk;
      slice.queries = queries.end - queries.begin;
      slice.key = keys.begin - key_chunks[b] + static_cast<int64_t>(b) * chunk;
      slice.keys = keys.end - keys.begin;
      slice.ahead = queries.begin - keys.begin;
      if (key_chunks[b] == query_chunks[a]) {
        add_own(all, slice, window);
      } else {
        add_earlier(all, slice, window);
      }
    }
}

// Slices that are the same in rows after each other become one.
std::vector<AttentionSlice> join_rows(const std::vector<AttentionSlice>& all) {
  std::vector<AttentionSlice> joined;
  std::map<std::array<int64_t, 6>, size_t> last;
  for (const AttentionSlice& slice : all) {
    const std::array key{slice.query, slice.queries, slice.key, slice.keys, slice.ahead, slice.window};
    const auto [found, fresh] = last.try_emplace(key, joined.size());
    if (!fresh && joined[found->second].row + joined[found->second].rows == slice.row) {
      ++joined[found->second].rows;
      continue;
    }
    found->second = joined.size();
    joined.push_back(slice);
  }
  return joined;
}

}  // namespace

std::vector<int64_t> AttentionSlice::pack(const std::vector<AttentionSlice>& slices) {
  std::vector<int64_t> numbers;
  numbers.reserve(slices.size() * kNumbers);
  for (const AttentionSlice& s : slices)
    numbers.insert(numbers.end(), {s.row, s.rows, s.query, s.queries, s.key, s.keys, s.ahead, s.window});
  return numbers;
}

std::vector<AttentionSlice> document_slices(int64_t rows, int64_t tokens, at::IntArrayRef documents, int64_t window) {
  check_window(window);
  std::vector<AttentionSlice> whole;
  int64_t row = 0, begin = 0;
  for (const int64_t length : documents) {
    if (row >= rows || length < 0 || begin + length > tokens)
      throw Error(ErrorKind::shape, "documents do not fill rows of " + std::to_string(tokens) + " tokens")
          .key("ft::attention");
    if (length == 0) continue;
    AttentionSlice* last = whole.empty() ? nullptr : &whole.back();
    if (length == tokens && last && last->queries == tokens) {
      ++last->rows;
    } else {
      whole.push_back({.row = row, .query = begin, .queries = length, .key = begin, .keys = length});
    }
    begin += length;
    if (begin == tokens) ++row, begin = 0;
  }
  if (row != rows)
    throw Error(ErrorKind::shape, "got documents of " + std::to_string(row) + " rows, want " + std::to_string(rows))
        .key("ft::attention");
  std::vector<AttentionSlice> all;
  for (const AttentionSlice& document : whole) add_own(all, document, window);
  return all;
}

std::vector<AttentionSlice> slices_between(const std::vector<std::vector<int64_t>>& documents,
                                           const SequenceSplit& mine, int64_t source, int64_t window) {
  check_window(window);
  const SequenceSplit theirs = mine.of(source);
  std::vector<AttentionSlice> all;
  for (size_t row = 0; row < documents.size(); ++row) {
    Stretch document;
    for (const int64_t length : documents[row]) {
      document = {document.end, document.end + length};
      add_document(all, document, mine, theirs, window, static_cast<int64_t>(row));
    }
    if (document.end != mine.length)
      throw Error(ErrorKind::shape, "got documents of " + std::to_string(document.end) + " tokens, want rows of " +
                                        std::to_string(mine.length))
          .key("ft::attention");
  }
  return join_rows(all);
}

}  // namespace ft
