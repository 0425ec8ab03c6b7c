// Unigram language model: the segmentation of a word with the highest sum of scores (Kudo 2018; sentencepiece,
// unigram_model.cc, EncodeOptimized).
#include <algorithm>
#include <limits>

#include "engine/error/error.h"
#include "engine/text/byte_trie.h"
#include "engine/text/model.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

class Unigram : public Model {
 public:
  explicit Unigram(TokenizerFile& file) : Model(file), scores_(std::move(file.scores)) {
    const Value& model = file.tree.at("model");
    for (const char* option : {"alpha", "nbest_size"})
      if (is_on(model, option))
        throw Error(ErrorKind::format, std::string(option) + " is not implemented").key("model");
    byte_fallback_ = model.get("byte_fallback", false);
    if (const Value* unk = model.find("unk_id"); unk && !unk->is_null()) {
      if (unk->as_integer() < 0 || unk->as_integer() >= tokens_.size())
        throw Error(ErrorKind::format, "got " + describe(*unk) + ", want the id of a token").key("model.unk_id");
      unk_id_ = static_cast<int32_t>(unk->as_integer());
    }
    for (int32_t id = 0; id < tokens_.size(); ++id) pieces_.insert(tokens_.token(id), id);
    constexpr double kUnknownPenalty = 10.0;  // sentencepiece's
    unk_score_ = std::numeric_limits<double>::infinity();
    for (const double score : scores_) unk_score_ = std::min(unk_score_, score);
    unk_score_ -= kUnknownPenalty;
  }

 protected:
  void encode_word(std::string_view word, std::vector<Symbol>& out) const override {
    const std::vector<Node> best = best_paths(word);
    std::vector<Symbol> path;  // from the end
    bool after_unknown = false;
    for (auto end = static_cast<uint32_t>(word.size()); end > 0;) {
      const Node& node = best[end];
      const bool unknown = node.id == unk_id_;
      if (unknown && after_unknown) {
        path.back().begin = node.begin;
      } else {
        path.push_back({node.id, node.begin, end});
      }
      after_unknown = unknown;
      end = node.begin;
    }
    for (auto it = path.rbegin(); it != path.rend(); ++it) append(word, *it, out);
  }

 private:
  struct Node {
    double score = 0;
    uint32_t begin = kNowhere;
    int32_t id = -1;
  };
  static constexpr uint32_t kNowhere = UINT32_MAX;

  /// best[i]: the last piece of the best segmentation of the first i bytes.
  std::vector<Node> best_paths(std::string_view word) const {
    std::vector<Node> best(word.size() + 1);
    const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
      Node& node = best[end];
      const double total = score + best[begin].score;
      if (node.begin == kNowhere || total > node.score) node = {total, static_cast<uint32_t>(begin), id};
    };
    for (size_t begin = 0; begin < word.size();) {
      size_t behind = begin;
      unicode::next_char(word, behind);
      bool has_character = false;
      uint32_t at = ByteTrie::kRoot;
      for (size_t end = begin; end < word.size();) {
        at = pieces_.step(at, static_cast<unsigned char>(word[end]));
        if (at == ByteTrie::kNone) break;
        ++end;
        const int32_t id = pieces_.value(at);
        if (id == ByteTrie::kNoValue) continue;
        offer(begin, end, scores_[static_cast<size_t>(id)], id);
        has_character |= end == behind;
      }
      if (!has_character) {
        if (unk_id_ < 0)
          throw Error(ErrorKind::format, "a character has no token, and the model states no unk_id: '" +
                                             std::string(word.substr(begin, behind - begin)) + "'");
        offer(begin, behind, unk_score_, unk_id_);
      }
      begin = behind;
    }
    return best;
  }

  void append(std::string_view word, Symbol symbol, std::vector<Symbol>& out) const {
    const std::string_view text = word.substr(symbol.begin, symbol.end - symbol.begin);
    symbol.id = pieces_.find(text);
    if (symbol.id >= 0) return out.push_back(symbol);
    if (byte_fallback_) {
      const size_t first = out.size();
      for (const char byte : text) {
        constexpr const char* kDigits = "0123456789ABCDEF";
        const auto b = static_cast<unsigned char>(byte);
        symbol.id = tokens_.find(std::string("<0x") + kDigits[b >> 4] + kDigits[b & 15] + ">");
        if (symbol.id < 0) break;
        out.push_back(symbol);
      }
      if (symbol.id >= 0) return;
      out.resize(first);
    }
    symbol.id = unk_id_;
    out.push_back(symbol);
  }

  std::vector<double> scores_;
  ByteTrie pieces_;
  double unk_score_;
  int32_t unk_id_ = -1;
  bool byte_fallback_;
};

}  // namespace

std::unique_ptr<const Model> parse_unigram(TokenizerFile& file) { return std::make_unique<Unigram>(file); }

}  // namespace ft
