// Byte-pair encoding of single words.
#include <algorithm>
#include <functional>
#include <queue>

#include "engine/error/error.h"
#include "engine/tensor/counter_random.h"
#include "engine/text/byte_level.h"
#include "engine/text/model.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

class Bpe : public Model {
 public:
  Bpe(TokenizerFile& file, bool raw_bytes);

 protected:
  void encode_word(std::string_view word, std::vector<Symbol>& out) const override;

 private:
  struct MergeSlot {
    uint64_t pair = UINT64_MAX;
    uint32_t rank = 0;
    int32_t id = 0;
  };
  struct Merged {
    uint32_t rank;
    int32_t id;
  };
  /// A symbol on its way: its token and how many bytes of the word it covers.
  struct Part {
    int32_t id;
    uint32_t size;
  };
  using Parts = std::vector<Part>;

  void add_merge(uint32_t rank, TokenizerFile::Merge merge);
  Merged merged(int32_t left, int32_t right) const;
  bool append_bytes(std::string_view text, Parts& parts) const;
  void initial_bytes(std::string_view word, Parts& parts) const;
  void initial_characters(std::string_view word, Parts& parts) const;
  void merge_short(Parts& parts) const;
  void merge_long(Parts& parts) const;

  bool raw_bytes_, ignore_merges_, fuse_unk_, byte_fallback_;
  int32_t unk_id_ = -1;  ///< -1: text without a token vanishes, as in `tokenizers`
  std::string prefix_, suffix_;
  std::vector<MergeSlot> merges_;
  int32_t of_byte_[256];  ///< ids of bytes: their spellings, or <0x0A> with byte_fallback
};

Bpe::Bpe(TokenizerFile& file, bool raw_bytes) : Model(file), raw_bytes_(raw_bytes) {
  const Value& model = file.tree.at("model");
  if (is_on(model, "dropout")) throw Error(ErrorKind::format, "dropout is not implemented").key("model");
  if (!file.has_merges) throw Error(ErrorKind::format, "want a list of merges").key("model.merges");
  ignore_merges_ = model.get("ignore_merges", false);
  fuse_unk_ = model.get("fuse_unk", false);
  byte_fallback_ = model.get("byte_fallback", false);
  prefix_ = model.get("continuing_subword_prefix", "");
  suffix_ = model.get("end_of_word_suffix", "");
  const Value* unknown = model.find("unk_token");  // an empty one is a token, too, where one may be needed
  if (is_on(model, "unk_token") || (unknown && unknown->is_string() && !raw_bytes && !byte_fallback_)) {
    unk_id_ = tokens_.find(model.at("unk_token").as_string());
    if (unk_id_ < 0) throw Error(ErrorKind::format, "unk_token is not in the vocabulary").key("model.unk_token");
  }
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    constexpr const char* kDigits = "0123456789ABCDEF";
    const std::string escape = std::string("<0x") + kDigits[b >> 4] + kDigits[b & 15] + ">";
    of_byte_[b] = tokens_.find(byte_fallback_ ? escape : byte_level::spell(std::string_view(&byte, 1)));
  }
  merges_.resize(hash_table_size(file.merges.size()));
  for (size_t i = 0; i < file.merges.size(); ++i) add_merge(static_cast<uint32_t>(i), file.merges[i]);
}

void Bpe::add_merge(uint32_t rank, TokenizerFile::Merge merge) {
  const std::string_view left = tokens_.str(merge.left), right = tokens_.str(merge.right);
  std::string both(left);
  both += right.substr(std::min(prefix_.size(), right.size()));
  const int32_t left_id = tokens_.find(left), right_id = tokens_.find(right), id = tokens_.find(both);
  if (left_id < 0 || right_id < 0 || id < 0)
    throw Error(ErrorKind::format, "merge " + std::to_string(rank) + ", '" + std::string(left) + "' with '" +
                                       std::string(right) + "', names tokens that the vocabulary lacks")
        .key("model.merges");
  const uint64_t pair = pair_key(left_id, right_id);
  size_t at = mix64(pair) & (merges_.size() - 1);
  while (merges_[at].pair != UINT64_MAX && merges_[at].pair != pair) at = (at + 1) & (merges_.size() - 1);
  merges_[at] = {pair, rank, id};
}

Bpe::Merged Bpe::merged(int32_t left, int32_t right) const {
  const uint64_t pair = pair_key(left, right);
  for (size_t at = mix64(pair) & (merges_.size() - 1); merges_[at].pair != UINT64_MAX;
       at = (at + 1) & (merges_.size() - 1))
    if (merges_[at].pair == pair) return {merges_[at].rank, merges_[at].id};
  return {kNoRank, -1};
}

void Bpe::encode_word(std::string_view word, std::vector<Symbol>& out) const {
  constexpr size_t kShort = 96;  // below it scanning all pairs again after a merge is faster than a queue
  if (ignore_merges_) {
    if (const int32_t id = raw_bytes_ ? tokens_.find(byte_level::spell(word)) : tokens_.find(word); id >= 0) {
      out.push_back({id, 0, static_cast<uint32_t>(word.size())});
      return;
    }
  }
  Parts parts;
  parts.reserve(word.size());
  raw_bytes_ ? initial_bytes(word, parts) : initial_characters(word, parts);
  parts.size() <= kShort ? merge_short(parts) : merge_long(parts);
  uint32_t at = 0;
  for (const Part& part : parts) {  // text without a token moves what follows it, as in `tokenizers`
    out.push_back({part.id, at, at + part.size});
    at += part.size;
  }
}

void Bpe::initial_bytes(std::string_view word, Parts& parts) const {
  bool after_unknown = false;
  for (const char byte : word) {
    const int32_t id = of_byte_[static_cast<unsigned char>(byte)];
    if (id >= 0) {
      parts.push_back({id, 1});
    } else if (after_unknown && fuse_unk_) {
      ++parts.back().size;
    } else if (unk_id_ >= 0) {
      parts.push_back({unk_id_, 1});
    }
    after_unknown = id < 0 && unk_id_ >= 0;
  }
}

bool Bpe::append_bytes(std::string_view text, Parts& parts) const {
  for (const char byte : text)
    if (of_byte_[static_cast<unsigned char>(byte)] < 0) return false;
  for (const char byte : text) parts.push_back({of_byte_[static_cast<unsigned char>(byte)], 1});
  return true;
}

/// An unknown token waits until a known character comes: bytes that stand for a character overtake it, as in
/// `tokenizers` (models/bpe/model.rs, merge_word).
void Bpe::initial_characters(std::string_view word, Parts& parts) const {
  uint32_t unknown = 0;  // bytes of the unknown token that waits
  const auto add_unknown = [&] {
    if (unknown > 0) parts.push_back({unk_id_, unknown});
    unknown = 0;
  };
  std::string spelled;
  for (size_t at = 0; at < word.size();) {
    const size_t begin = at;
    unicode::next_char(word, at);
    std::string_view text = word.substr(begin, at - begin);
    const auto size = static_cast<uint32_t>(text.size());
    if ((begin > 0 && !prefix_.empty()) || (at == word.size() && !suffix_.empty())) {
      spelled = begin > 0 ? prefix_ : "";
      spelled += text;
      if (at == word.size()) spelled += suffix_;
      text = spelled;
    }
    if (const int32_t id = tokens_.find(text); id >= 0) {
      add_unknown();
      parts.push_back({id, size});
    } else if (!(byte_fallback_ && append_bytes(text, parts)) && unk_id_ >= 0) {
      if (!fuse_unk_) add_unknown();
      unknown += size;
    }
  }
  add_unknown();
}

void Bpe::merge_short(Parts& parts) const {
  std::vector<Merged> pairs(parts.size());  // pairs[i]: parts i and i + 1
  const auto look = [&](size_t i) {
    pairs[i] = i + 1 < parts.size() ? merged(parts[i].id, parts[i + 1].id) : Merged{kNoRank, -1};
  };
  for (size_t i = 0; i < parts.size(); ++i) look(i);
  while (parts.size() > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < parts.size(); ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == kNoRank) return;
    parts[best] = {pairs[best].id, parts[best].size + parts[best + 1].size};
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    pairs.erase(pairs.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    look(best);
    if (best > 0) look(best - 1);
  }
}

/// The same by a queue of pairs over a linked list: O(n log n) for words of any length.
void Bpe::merge_long(Parts& parts) const {
  struct Candidate {
    uint32_t rank, at;
    int32_t id;
    bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  constexpr uint32_t kEnd = UINT32_MAX;
  const auto n = static_cast<uint32_t>(parts.size());
  std::vector<uint32_t> next(n), previous(n);
  std::vector<bool> gone(n, false);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto look = [&](uint32_t i) {
    if (next[i] == kEnd) return;
    const Merged m = merged(parts[i].id, parts[next[i]].id);
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
    if (merged(parts[top.at].id, parts[right].id).rank != top.rank) continue;  // one of the two has grown since
    parts[top.at] = {top.id, parts[top.at].size + parts[right].size};
    gone[right] = true;
    next[top.at] = next[right];
    if (next[right] != kEnd) previous[next[right]] = top.at;
    look(top.at);
    if (previous[top.at] != kEnd) look(previous[top.at]);
  }
  size_t kept = 0;
  for (uint32_t i = n > 0 ? 0 : kEnd; i != kEnd; i = next[i]) parts[kept++] = parts[i];
  parts.resize(kept);
}

}  // namespace

std::unique_ptr<const Model> parse_bpe(TokenizerFile& file, bool raw_bytes) {
  if (!file.tree.at("model").find("merges")) throw Error(ErrorKind::format, "BPE without merges").key("model.merges");
  return std::make_unique<Bpe>(file, raw_bytes);
}

}  // namespace ft
