// What SentencePiece does to a text before it looks for pieces (sentencepiece, normalizer.cc), and what transformers'
// slow Llama tokenizer puts around that where `legacy` is off (transformers 4, tokenization_llama.py).
#include "engine/text/normalizer.h"
#include "engine/text/sentencepiece_file.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

constexpr std::string_view kMark = "▁";

class SentencePieceNormalizer : public Normalizer {
 public:
  explicit SentencePieceNormalizer(std::shared_ptr<const SentencePieces> pieces) : pieces_(std::move(pieces)) {}

  void apply(AlignedText& text) const override {
    const bool first = pieces_->prefix == SentencePieces::Prefix::first && text.source_begin() == 0;
    Run run;
    if (first) run.prefixed = std::string(kMark) + std::string(text.text());
    run.in = first ? std::string_view(run.prefixed) : text.text();
    run.added = first ? kMark.size() : 0;
    if (!run.in.empty()) normalize(run);
    text.rewrite(std::move(run.out), run.starts, run.end);
  }

 private:
  /// A text on its way. Places are those of the text without the prefix.
  struct Run {
    std::string prefixed;
    std::string_view in;
    size_t added = 0;
    std::string out;
    std::vector<uint32_t> starts;  ///< for each byte of `out`, where what it stands for begins
    uint32_t end = 0;

    uint32_t place(size_t at) const { return static_cast<uint32_t>(at > added ? at - added : 0); }
    void put(std::string_view text, size_t at) {
      for (const char c : text) {
        const std::string_view spelled = c == ' ' ? kMark : std::string_view(&c, 1);
        out += spelled;
        starts.insert(starts.end(), spelled.size(), place(at));
      }
    }
  };
  struct Step {
    std::string_view text;  ///< what stands for the next `size` bytes
    size_t size;
  };

  void normalize(Run& run) const {
    const std::string_view in = run.in;
    const bool strip = pieces_->remove_extra_whitespaces;
    // The slow tokenizer hides white space at the beginning from the library by an unknown token in front.
    bool after_space = strip && !(!pieces_->legacy && (in.starts_with(kMark) || in.starts_with(' ')));
    size_t at = 0;
    while (after_space && at < in.size()) {
      const Step step = next(run, at);
      if (step.text != " ") break;
      at += step.size;
    }
    run.end = run.place(at);
    if (at == in.size()) return;
    if (pieces_->prefix == SentencePieces::Prefix::each) run.put(" ", at);
    while (at < in.size()) {
      auto [text, size] = next(run, at);
      while (after_space && text.starts_with(' ')) text.remove_prefix(1);
      run.put(text, at);
      if (!text.empty()) after_space = strip && text.ends_with(' ');
      at += size;
    }
    run.end = run.place(at);
    while (strip && run.out.ends_with(kMark)) {
      run.out.resize(run.out.size() - kMark.size());
      run.end = run.starts[run.out.size()];
      run.starts.resize(run.out.size());
    }
  }

  Step next(const Run& run, size_t at) const {
    const std::string_view rest = run.in.substr(at);
    if (!pieces_->legacy && at >= run.added && rest.starts_with(kMark)) {  // as if it were a space
      const CharsMap::Match rule = pieces_->rules.longest(" ");
      return {rule.size > 0 ? rule.text : " ", kMark.size()};
    }
    if (const size_t size = pieces_->user_defined_at(rest); size > 0) return {rest.substr(0, size), size};
    if (const CharsMap::Match rule = pieces_->rules.longest(rest); rule.size > 0) return {rule.text, rule.size};
    size_t size = 0;
    unicode::next_char(rest, size);
    return {rest.substr(0, size), size};
  }

  std::shared_ptr<const SentencePieces> pieces_;
};

}  // namespace

std::unique_ptr<const Normalizer> sentencepiece_normalizer(std::shared_ptr<const SentencePieces> pieces) {
  return std::make_unique<SentencePieceNormalizer>(std::move(pieces));
}

}  // namespace ft
