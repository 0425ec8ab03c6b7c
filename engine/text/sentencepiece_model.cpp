// SentencePiece's own BPE and Unigram (sentencepiece, bpe_model.cc and unigram_model.cc): they differ from those of
// tokenizer.json in what scores, unused pieces and user-defined symbols do.
#include <algorithm>
#include <limits>
#include <queue>
#include <unordered_map>

#include "engine/text/model.h"
#include "engine/text/sentencepiece_file.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

using Type = SentencePieces::Type;

class SentencePieceModel : public Model {
 protected:
  explicit SentencePieceModel(TokenizerFile& file) : Model(file), pieces_(file.pieces) {}

  virtual void segment(std::string_view word, std::vector<Symbol>& out) const = 0;

  void encode_word(std::string_view word, std::vector<Symbol>& out) const override {
    std::vector<Symbol> found;
    segment(word, found);
    bool after_unknown = false;
    for (const Symbol& symbol : found) {
      const bool unknown = symbol.id == pieces_->unknown;
      if (unknown && pieces_->byte_fallback) {
        for (uint32_t i = symbol.begin; i < symbol.end; ++i)
          out.push_back({pieces_->of_byte[static_cast<unsigned char>(word[i])], symbol.begin, symbol.end});
      } else if (unknown && after_unknown) {
        out.back().end = symbol.end;
      } else {
        out.push_back(symbol);
      }
      after_unknown = unknown;
    }
  }

  Type type(int32_t id) const { return pieces_->types[static_cast<size_t>(id)]; }
  float score(int32_t id) const { return pieces_->scores[static_cast<size_t>(id)]; }
  /// Whether text may become this piece.
  bool is_ordinary(int32_t id) const {
    return type(id) == Type::normal || type(id) == Type::user_defined || type(id) == Type::unused;
  }

  std::shared_ptr<const SentencePieces> pieces_;
};

class SentencePieceBpe : public SentencePieceModel {
 public:
  explicit SentencePieceBpe(TokenizerFile& file) : SentencePieceModel(file) {}

 protected:
  void segment(std::string_view word, std::vector<Symbol>& out) const override {
    Run run{word, {}, {}, {}};
    split(run);
    for (size_t i = 1; i < run.parts.size(); ++i) offer(run, static_cast<int>(i) - 1, static_cast<int>(i));
    while (!run.queue.empty()) {
      const Pair top = run.queue.top();
      run.queue.pop();
      Part &left = run.parts[top.left], &right = run.parts[top.right];
      if (left.text.empty() || right.text.empty() || left.text.size() + right.text.size() != top.size) continue;
      left.text = joined(left, right);
      left.next = right.next;
      if (right.next >= 0) run.parts[right.next].previous = top.left;
      right.text = {};
      offer(run, left.previous, top.left);
      offer(run, top.left, left.next);
    }
    for (int i = 0; i >= 0 && !run.parts.empty(); i = run.parts[i].next) append(run, run.parts[i].text, out);
  }

 private:
  struct Part {
    std::string_view text;  ///< empty once it is part of the one before
    int previous, next;     ///< -1: none
    bool frozen;
  };
  struct Pair {
    float score;
    int left, right;
    size_t size;
    bool operator<(const Pair& other) const { return score != other.score ? score < other.score : left > other.left; }
  };
  struct Run {
    std::string_view word;
    std::vector<Part> parts;
    std::priority_queue<Pair> queue;
    /// What an unused piece was made of.
    std::unordered_map<std::string_view, std::pair<std::string_view, std::string_view>> taken_back;
  };

  static std::string_view joined(const Part& left, const Part& right) {
    return {left.text.data(), left.text.size() + right.text.size()};
  }

  void split(Run& run) const {
    for (size_t at = 0; at < run.word.size();) {
      const size_t symbol = pieces_->user_defined_at(run.word.substr(at));
      size_t end = at + symbol;
      if (symbol == 0) unicode::next_char(run.word, end);
      const int i = static_cast<int>(run.parts.size());
      run.parts.push_back({run.word.substr(at, end - at), i - 1, end < run.word.size() ? i + 1 : -1, symbol > 0});
      at = end;
    }
  }

  void offer(Run& run, int left, int right) const {
    if (left < 0 || right < 0 || run.parts[left].frozen || run.parts[right].frozen) return;
    const std::string_view text = joined(run.parts[left], run.parts[right]);
    const int32_t id = tokens_.find(text);
    if (id < 0 || !is_ordinary(id)) return;
    run.queue.push({score(id), left, right, text.size()});
    if (type(id) == Type::unused) run.taken_back[text] = {run.parts[left].text, run.parts[right].text};
  }

  void append(const Run& run, std::string_view text, std::vector<Symbol>& out) const {
    std::vector<std::string_view> waiting{text};
    while (!waiting.empty()) {
      const std::string_view piece = waiting.back();
      waiting.pop_back();
      const int32_t id = tokens_.find(piece);
      const auto parts = id >= 0 && type(id) == Type::unused ? run.taken_back.find(piece) : run.taken_back.end();
      if (parts != run.taken_back.end()) {
        waiting.push_back(parts->second.second);
        waiting.push_back(parts->second.first);
        continue;
      }
      const auto begin = static_cast<uint32_t>(piece.data() - run.word.data());
      out.push_back({id >= 0 ? id : pieces_->unknown, begin, begin + static_cast<uint32_t>(piece.size())});
    }
  }
};

class SentencePieceUnigram : public SentencePieceModel {
 public:
  explicit SentencePieceUnigram(TokenizerFile& file) : SentencePieceModel(file) {
    float least = std::numeric_limits<float>::max();
    for (int32_t id = 0; id < tokens_.size(); ++id) {
      if (type(id) == Type::normal || type(id) == Type::user_defined) trie_.insert(tokens_.token(id), id);
      if (type(id) != Type::normal) continue;
      least = std::min(least, score(id));
      most_ = std::max(most_, score(id));
    }
    constexpr float kUnknownPenalty = 10;
    unknown_score_ = least - kUnknownPenalty;
  }

 protected:
  void segment(std::string_view word, std::vector<Symbol>& out) const override {
    std::vector<Node> best(word.size() + 1);
    for (size_t begin = 0; begin < word.size();) {
      size_t behind = begin;
      unicode::next_char(word, behind);
      const float until = best[begin].score;
      bool has_character = false;
      uint32_t node = ByteTrie::kRoot;
      for (size_t end = begin; end < word.size();) {
        node = trie_.step(node, static_cast<unsigned char>(word[end]));
        if (node == ByteTrie::kNone) break;
        ++end;
        const int32_t id = trie_.value(node);
        if (id == ByteTrie::kNoValue) continue;
        best[end].offer(piece_score(id, end - begin) + until, begin, id);
        has_character |= end == behind;
      }
      if (!has_character) best[behind].offer(unknown_score_ + until, begin, pieces_->unknown);
      begin = behind;
    }
    for (size_t end = word.size(); end > 0; end = best[end].begin)
      out.push_back({best[end].id, best[end].begin, static_cast<uint32_t>(end)});
    std::reverse(out.begin(), out.end());
  }

 private:
  /// The last piece of the best segmentation that ends here. Sums are kept in fp32, as the library keeps them: of two
  /// that differ by less, the first one stays.
  struct Node {
    float score = 0;
    uint32_t begin = kNowhere;
    int32_t id = -1;
    void offer(double total, size_t from, int32_t piece) {
      if (begin == kNowhere || total > score) *this = {static_cast<float>(total), static_cast<uint32_t>(from), piece};
    }
  };
  static constexpr uint32_t kNowhere = UINT32_MAX;

  double piece_score(int32_t id, size_t size) const {
    constexpr double kBonus = -0.1;  // user-defined symbols: above what most pieces have
    if (type(id) != Type::user_defined) return static_cast<double>(score(id));
    return static_cast<double>(static_cast<float>(size) * most_) + kBonus;
  }

  ByteTrie trie_;
  float most_ = std::numeric_limits<float>::min();  // the library's start: the least number above 0
  float unknown_score_;
};

}  // namespace

std::unique_ptr<const Model> parse_sentencepiece(TokenizerFile& file) {
  if (file.pieces->kind == SentencePieces::Kind::bpe) return std::make_unique<SentencePieceBpe>(file);
  return std::make_unique<SentencePieceUnigram>(file);
}

}  // namespace ft
