#include "engine/text/bpe.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "engine/error/error.h"
#include "engine/tensor/counter_random.h"
#include "engine/text/byte_level.h"

namespace ft {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;

/// A power of two that leaves a hash table of `count` entries half empty.
size_t table_size(size_t count) {
  size_t size = 16;
  while (size < 2 * count) size *= 2;
  return size;
}

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t hash_text(std::string_view text) { return std::hash<std::string_view>{}(text); }

}  // namespace

WordCache::WordCache() : slots_(1 << 16) {}

bool WordCache::find(std::string_view word, const BpeSymbol*& symbols, size_t& count) const {
  const uint64_t hash = hash_text(word);
  for (size_t at = hash & (slots_.size() - 1); slots_[at].count > 0; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.hash != hash || std::string_view(keys_).substr(slot.key, slot.key_size) != word) continue;
    symbols = symbols_.data() + slot.symbols;
    count = slot.count;
    return true;
  }
  return false;
}

void WordCache::insert(std::string_view word, const BpeSymbol* symbols, size_t count) {
  constexpr size_t kLongestWord = 128;  // long words seldom come back, and would fill the cache
  if (count == 0 || word.size() > kLongestWord) return;
  if (2 * used_ >= slots_.size()) {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    keys_.clear();
    symbols_.clear();
    used_ = 0;
  }
  const uint64_t hash = hash_text(word);
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at].count > 0) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {hash, static_cast<uint32_t>(keys_.size()), static_cast<uint32_t>(word.size()),
                static_cast<uint32_t>(symbols_.size()), static_cast<uint32_t>(count)};
  keys_ += word;
  symbols_.insert(symbols_.end(), symbols, symbols + count);
  ++used_;
}

BpeModel::BpeModel(TokenizerFile& file, Options options) : options_(options), text_(std::move(file.text)) {
  int32_t highest = -1;
  for (const auto& entry : file.vocab) highest = std::max(highest, entry.id);
  of_id_.assign(static_cast<size_t>(highest + 1), {0, kAbsent});
  table_.assign(table_size(file.vocab.size()), -1);
  for (const auto& entry : file.vocab) {
    const std::string_view token = std::string_view(text_).substr(entry.token.begin, entry.token.size);
    if (has(entry.id))
      throw Error(ErrorKind::format, "gives id " + std::to_string(entry.id) + " to both '" +
                                         std::string(this->token(entry.id)) + "' and '" + std::string(token) + "'");
    of_id_[entry.id] = entry.token;
    size_t at = hash_text(token) & (table_.size() - 1);
    while (table_[at] >= 0 && this->token(table_[at]) != token) at = (at + 1) & (table_.size() - 1);
    if (table_[at] < 0) ++count_;
    table_[at] = entry.id;
  }
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    of_byte_[b] = find(byte_level::spell({&byte, 1}));
  }
  merges_.resize(table_size(file.merges.size()));
  for (size_t i = 0; i < file.merges.size(); ++i) add_merge(static_cast<uint32_t>(i), file.merges[i]);
}

void BpeModel::add_merge(uint32_t rank, TokenizerFile::Merge merge) {
  const std::string_view text(text_);
  const std::string_view left = text.substr(merge.left.begin, merge.left.size);
  const std::string_view right = text.substr(merge.right.begin, merge.right.size);
  std::string both(left);
  both += right;
  const int32_t left_id = find(left), right_id = find(right), id = find(both);
  if (left_id < 0 || right_id < 0 || id < 0)
    throw Error(ErrorKind::format, "merge " + std::to_string(rank) + ", '" + std::string(left) + "' with '" +
                                       std::string(right) + "', names tokens that the vocabulary lacks")
        .key("model.merges");
  const uint64_t pair = pair_key(left_id, right_id);
  size_t at = mix64(pair) & (merges_.size() - 1);
  while (merges_[at].pair != UINT64_MAX && merges_[at].pair != pair) at = (at + 1) & (merges_.size() - 1);
  merges_[at] = {pair, rank, id};
}

int32_t BpeModel::find(std::string_view token) const {
  for (size_t at = hash_text(token) & (table_.size() - 1); table_[at] >= 0; at = (at + 1) & (table_.size() - 1))
    if (this->token(table_[at]) == token) return table_[at];
  return -1;
}

std::string_view BpeModel::token(int32_t id) const {
  if (!has(id)) return {};
  return std::string_view(text_).substr(of_id_[id].begin, of_id_[id].size);
}

BpeModel::Merged BpeModel::merged(int32_t left, int32_t right) const {
  const uint64_t pair = pair_key(left, right);
  for (size_t at = mix64(pair) & (merges_.size() - 1); merges_[at].pair != UINT64_MAX;
       at = (at + 1) & (merges_.size() - 1))
    if (merges_[at].pair == pair) return {merges_[at].rank, merges_[at].id};
  return {kNoRank, -1};
}

void BpeModel::encode(std::string_view word, WordCache& cache, std::vector<BpeSymbol>& out) const {
  const BpeSymbol* known = nullptr;
  size_t count = 0;
  if (cache.find(word, known, count)) {
    out.insert(out.end(), known, known + count);
    return;
  }
  const size_t first = out.size();
  std::vector<BpeSymbol> symbols;
  encode_uncached(word, symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
  cache.insert(word, out.data() + first, symbols.size());
}

void BpeModel::encode_uncached(std::string_view word, std::vector<BpeSymbol>& symbols) const {
  constexpr size_t kShort = 96;  // below it scanning all pairs again after a merge is faster than a queue
  if (options_.ignore_merges) {
    if (const int32_t id = find(byte_level::spell(word)); id >= 0) {
      symbols.push_back({id, 0, static_cast<uint32_t>(word.size())});
      return;
    }
  }
  initial(word, symbols);
  symbols.size() <= kShort ? merge_short(symbols) : merge_long(symbols);
}

void BpeModel::initial(std::string_view word, std::vector<BpeSymbol>& symbols) const {
  symbols.reserve(word.size());
  bool after_unknown = false;
  for (uint32_t i = 0; i < word.size(); ++i) {
    const int32_t id = of_byte_[static_cast<unsigned char>(word[i])];
    if (id >= 0) {
      symbols.push_back({id, i, i + 1});
    } else if (after_unknown && options_.fuse_unk) {
      symbols.back().end = i + 1;
    } else if (options_.unk_id >= 0) {
      symbols.push_back({options_.unk_id, i, i + 1});
    }
    after_unknown = id < 0 && options_.unk_id >= 0;
  }
}

void BpeModel::merge_short(std::vector<BpeSymbol>& symbols) const {
  std::vector<Merged> pairs(symbols.size());  // pairs[i]: symbols i and i + 1
  const auto look = [&](size_t i) {
    pairs[i] = i + 1 < symbols.size() ? merged(symbols[i].id, symbols[i + 1].id) : Merged{kNoRank, -1};
  };
  for (size_t i = 0; i < symbols.size(); ++i) look(i);
  while (symbols.size() > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < symbols.size(); ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == kNoRank) return;
    symbols[best] = {pairs[best].id, symbols[best].begin, symbols[best + 1].end};
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    pairs.erase(pairs.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    look(best);
    if (best > 0) look(best - 1);
  }
}

/// The same by a queue of pairs over a linked list: O(n log n) for words of any length.
void BpeModel::merge_long(std::vector<BpeSymbol>& symbols) const {
  struct Candidate {
    uint32_t rank, at;
    int32_t id;
    bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  constexpr uint32_t kEnd = UINT32_MAX;
  const auto n = static_cast<uint32_t>(symbols.size());
  std::vector<uint32_t> next(n), previous(n);
  std::vector<bool> gone(n, false);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto look = [&](uint32_t i) {
    if (next[i] == kEnd) return;
    const Merged m = merged(symbols[i].id, symbols[next[i]].id);
    if (m.rank != kNoRank) queue.push({m.rank, i, m.id});
  };
  for (uint32_t i = 0; i < n; ++i) {
    next[i] = i + 1 < n ? i + 1 : kEnd;
    previous[i] = i > 0 ? i - 1 : kEnd;
  }
  for (uint32_t i = 0; i < n; ++i) look(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    if (gone[top.at] || next[top.at] == kEnd) continue;
    const uint32_t right = next[top.at];
    if (merged(symbols[top.at].id, symbols[right].id).rank != top.rank) continue;  // one of the two has grown since
    symbols[top.at] = {top.id, symbols[top.at].begin, symbols[right].end};
    gone[right] = true;
    next[top.at] = next[right];
    if (next[right] != kEnd) previous[next[right]] = top.at;
    look(top.at);
    if (previous[top.at] != kEnd) look(previous[top.at]);
  }
  size_t kept = 0;
  for (uint32_t i = 0; i != kEnd; i = next[i]) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

}  // namespace ft
