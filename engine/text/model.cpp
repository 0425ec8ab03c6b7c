#include "engine/text/model.h"

#include <cstring>

#include "engine/error/error.h"
#include "engine/tensor/counter_random.h"

namespace ft {
namespace {

/// Words are mostly shorter than 16 bytes: two overlapping reads and a mix, where std::hash makes a call.
uint64_t hash_word(std::string_view word) {
  const size_t n = word.size();
  uint64_t a = 0, b = 0;
  if (n >= 8) {
    uint64_t all = n;
    for (size_t i = 0; i + 8 <= n; i += 8) {
      std::memcpy(&a, word.data() + i, 8);
      all = mix64(all ^ a);
    }
    std::memcpy(&b, word.data() + n - 8, 8);
    return mix64(all ^ b);
  }
  for (size_t i = 0; i < n; ++i) a = a << 8 | static_cast<unsigned char>(word[i]);
  return mix64(a ^ static_cast<uint64_t>(n) << 56);
}

}  // namespace

WordCache::WordCache() : slots_(1 << 16) {}

bool WordCache::find(std::string_view word, const Symbol*& symbols, size_t& count) const {
  const uint64_t hash = hash_word(word);
  for (size_t at = hash & (slots_.size() - 1); slots_[at].count > 0; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.hash != hash || std::string_view(keys_).substr(slot.key, slot.key_size) != word) continue;
    symbols = symbols_.data() + slot.symbols;
    count = slot.count;
    return true;
  }
  return false;
}

void WordCache::insert(std::string_view word, const Symbol* symbols, size_t count) {
  constexpr size_t kLongestWord = 128;  // long words seldom come back, and would fill the cache
  if (count == 0 || word.size() > kLongestWord) return;
  if (2 * used_ >= slots_.size()) {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    keys_.clear();
    symbols_.clear();
    used_ = 0;
  }
  const uint64_t hash = hash_word(word);
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at].count > 0) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {hash, static_cast<uint32_t>(keys_.size()), static_cast<uint32_t>(word.size()),
                static_cast<uint32_t>(symbols_.size()), static_cast<uint32_t>(count)};
  keys_ += word;
  symbols_.insert(symbols_.end(), symbols, symbols + count);
  ++used_;
}

void Model::encode(std::string_view word, WordCache& cache, std::vector<Symbol>& out) const {
  const Symbol* known = nullptr;
  size_t count = 0;
  if (cache.find(word, known, count)) {
    out.insert(out.end(), known, known + count);
    return;
  }
  const size_t first = out.size();
  encode_word(word, out);
  cache.insert(word, out.data() + first, out.size() - first);
}

bool is_on(const Value& tree, const char* key) {
  const Value* v = tree.find(key);
  if (!v || v->is_null()) return false;
  if (v->is_bool()) return v->as_bool();
  if (v->is_number()) return v->as_number() != 0;
  return !v->is_string() || !v->as_string().empty();
}

int byte_of_piece(std::string_view piece) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  constexpr size_t kSize = 6;
  if (piece.size() != kSize || !piece.starts_with("<0x") || piece.back() != '>') return -1;
  const size_t high = kDigits.find(piece[3]), low = kDigits.find(piece[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return -1;
  return static_cast<int>(high * kDigits.size() + low);
}

bool reads_raw_bytes(const Value& model) {
  const std::string type = model.get("type", "");
  if ((type != "BPE" && !type.empty()) || !model.find("merges")) return false;
  for (const char* option : {"continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"})
    if (is_on(model, option)) return false;
  return true;
}

std::unique_ptr<const Model> parse_model(TokenizerFile& file, bool raw_bytes) {
  if (file.pieces) return parse_sentencepiece(file);
  const Value& model = file.tree.at("model");
  std::string type = model.get("type", "");
  if (type.empty()) {  // older files name no type: `tokenizers` tries these in turn
    if (model.find("merges"))
      type = "BPE";
    else if (!file.has_vocab_map)
      type = "Unigram";
    else
      type = model.find("max_input_chars_per_word") ? "WordPiece" : "WordLevel";
  }
  if (type != "BPE" && type != "Unigram" && type != "WordPiece" && type != "WordLevel")
    throw Error(ErrorKind::format, type + " is not implemented").key("model");
  if (file.has_vocab_map == (type == "Unigram"))
    throw Error(ErrorKind::format, type + (file.has_vocab_map ? " wants a list" : " wants a map of tokens to ids"))
        .key("model.vocab");
  if (type == "BPE") return parse_bpe(file, raw_bytes);
  if (type == "Unigram") return parse_unigram(file);
  return type == "WordPiece" ? parse_word_piece(file) : parse_word_level(file);
}

}  // namespace ft
