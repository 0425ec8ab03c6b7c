#include "engine/text/pre_tokenizer.h"

#include <optional>

#include "engine/error/error.h"
#include "engine/text/byte_level.h"
#include "engine/text/find.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

/// GPT-2's pattern, which ByteLevel uses unless use_regex is false (openai/gpt-2, encoder.py).
constexpr const char* kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void cut(const AlignedText& piece, const std::vector<TextMatch>& parts, std::vector<AlignedText>& out) {
  for (const TextMatch& part : parts)
    if (!part.match) out.push_back(piece.slice(part.begin, part.end));
}

/// Split: at a pattern.
class Split : public PreTokenizerStep {
 public:
  explicit Split(const Value& tree)
      : finder_(Finder::parse(tree.at("pattern"))),
        behavior_(parse_behavior(tree.at("behavior"))),
        invert_(tree.get("invert", false)) {}

  void split(AlignedText piece, std::vector<AlignedText>& out) const override {
    if (behavior_ == SplitBehavior::isolated)  // every match and every gap is a word, whatever `invert` says
      return finder_.each(piece.text(), [&](size_t b, size_t e, bool) { out.push_back(piece.slice(b, e)); });
    if (behavior_ == SplitBehavior::removed)
      return finder_.each(piece.text(), [&](size_t b, size_t e, bool match) {
        if (match == invert_) out.push_back(piece.slice(b, e));
      });
    std::vector<TextMatch> matches = finder_.matches(piece.text());
    for (TextMatch& m : matches) m.match ^= invert_;
    cut(piece, apply_behavior(behavior_, std::move(matches)), out);
  }

 private:
  Finder finder_;
  SplitBehavior behavior_;
  bool invert_;
};

/// Digits, Punctuation, WhitespaceSplit, CharDelimiterSplit and the two halves of BertPreTokenizer: at characters.
template <typename Is>
class SplitAt : public PreTokenizerStep {
 public:
  SplitAt(Is is, SplitBehavior behavior) : is_(std::move(is)), behavior_(behavior) {}
  void split(AlignedText piece, std::vector<AlignedText>& out) const override {
    cut(piece, apply_behavior(behavior_, matches_of(piece.text(), is_)), out);
  }

 private:
  Is is_;
  SplitBehavior behavior_;
};

template <typename Is>
std::unique_ptr<const PreTokenizerStep> split_at(Is is, SplitBehavior behavior) {
  return std::make_unique<SplitAt<Is>>(std::move(is), behavior);
}

/// Calls take(begin, end, kind) for each run of characters of one kind.
template <typename Kind, typename Take>
void each_run(std::string_view text, const Kind& kind_of, const Take& take) {
  size_t begin = 0;
  auto kind = kind_of(0);
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    const auto next = kind_of(unicode::next_char(text, at));
    if (here > 0 && next != kind) {
      take(begin, here, kind);
      begin = here;
    }
    kind = next;
  }
  if (begin < text.size()) take(begin, text.size(), kind);
}

/// Whitespace: runs of word characters, and runs of what is neither word nor white space (\w+|[^\w\s]+).
class Whitespace : public PreTokenizerStep {
 public:
  void split(AlignedText piece, std::vector<AlignedText>& out) const override {
    const auto kind = [](uint32_t c) { return unicode::is_word(c) ? 1 : unicode::is_white_space(c) ? 0 : 2; };
    each_run(piece.text(), kind, [&](size_t b, size_t e, int k) {
      if (k != 0) out.push_back(piece.slice(b, e));
    });
  }
};

/// UnicodeScripts: between two scripts. What goes with any script stays with what is before it; at the beginning it is
/// lost, as in `tokenizers`.
class UnicodeScripts : public PreTokenizerStep {
 public:
  void split(AlignedText piece, std::vector<AlignedText>& out) const override {
    const std::string_view text = piece.text();
    uint8_t last = 0;
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t here = at;
      const uint8_t script = unicode::script(unicode::next_char(text, at));
      if (script == 0 || script == last) continue;
      if (last != 0) out.push_back(piece.slice(begin, here));
      begin = here;
      last = script;
    }
    if (last != 0) out.push_back(piece.slice(begin, text.size()));
  }
};

class FixedLength : public PreTokenizerStep {
 public:
  explicit FixedLength(int64_t length) : length_(length) {
    if (length < 1) throw Error(ErrorKind::format, "got length " + std::to_string(length) + ", want 1 or more");
  }
  void split(AlignedText piece, std::vector<AlignedText>& out) const override {
    const std::string_view text = piece.text();
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      for (int64_t i = 0; i < length_ && at < text.size(); ++i) unicode::next_char(text, at);
      out.push_back(piece.slice(begin, at));
    }
  }

 private:
  int64_t length_;
};

/// Metaspace: spaces become a visible character, and words begin at it.
class Metaspace : public PreTokenizerStep {
 public:
  explicit Metaspace(const Value& tree) : mark_(tree.get("replacement", "▁")), split_(tree.get("split", true)) {
    if (characters(mark_).size() != 1)
      throw Error(ErrorKind::format, "Metaspace with the replacement '" + mark_ + "', want one character");
    scheme_ = tree.get("prepend_scheme", "always");
    if (scheme_ != "always" && scheme_ != "first" && scheme_ != "never")
      throw Error(ErrorKind::format, "Metaspace with prepend_scheme '" + scheme_ + "' is not implemented");
    if (!tree.get("add_prefix_space", true)) {
      if (tree.find("prepend_scheme") && scheme_ != "never")
        throw Error(ErrorKind::format, "Metaspace's add_prefix_space does not match its prepend_scheme");
      if (!tree.find("prepend_scheme"))  // `tokenizers` takes "always" for it, and refuses the file
        throw Error(ErrorKind::format, "Metaspace without prefix space states no prepend_scheme");
    }
  }

  void split(AlignedText piece, std::vector<AlignedText>& out) const override {
    piece.replace(matches_of(piece.text(), [](uint32_t c) { return c == ' '; }), mark_);
    const bool wanted = scheme_ == "always" || (scheme_ == "first" && piece.source_begin() == 0);
    if (wanted && !piece.text().starts_with(mark_)) piece.prepend(mark_);
    if (!split_) return out.push_back(std::move(piece));
    const std::string_view text = piece.text();
    size_t begin = 0;
    for (size_t at = text.find(mark_, 1); at != std::string_view::npos; at = text.find(mark_, at + 1)) {
      if (at > begin) out.push_back(piece.slice(begin, at));
      begin = at;
    }
    out.push_back(piece.slice(begin, text.size()));
  }

 private:
  std::string mark_, scheme_;
  bool split_;
};

class ByteLevel : public PreTokenizerStep {
 public:
  ByteLevel(const Value& tree, bool raw_bytes) : prefix_(tree.get("add_prefix_space", true)), raw_bytes_(raw_bytes) {
    if (tree.get("use_regex", true)) finder_.emplace(SplitRegex(translate_pattern(kByteLevelPattern)));
  }

  void split(AlignedText piece, std::vector<AlignedText>& out) const override {
    if (prefix_ && !piece.text().starts_with(' ')) piece.prepend(" ");
    const auto add = [&](AlignedText word) {
      if (!raw_bytes_) byte_level::spell(word);
      out.push_back(std::move(word));
    };
    if (!finder_) return add(std::move(piece));
    finder_->each(piece.text(), [&](size_t begin, size_t end, bool) { add(piece.slice(begin, end)); });
  }

 private:
  std::optional<Finder> finder_;
  bool prefix_, raw_bytes_;
};

[[noreturn]] void refuse(const std::string& part) {
  throw Error(ErrorKind::format, part + " is not implemented").key("pre_tokenizer");
}

}  // namespace

PreTokenizer::PreTokenizer(const Value& tree, bool raw_bytes) {
  if (!tree.is_null()) add(tree, raw_bytes);
}

bool PreTokenizer::ends_in_byte_level(const Value& tree) {
  const std::string type = tree.get("type", "");
  if (type != "Sequence") return type == "ByteLevel";
  const Value::List& parts = tree.at("pretokenizers").as_list();
  return !parts.empty() && ends_in_byte_level(parts.back());
}

void PreTokenizer::add(const Value& tree, bool raw_bytes) {
  const std::string type = tree.get("type", "");
  const auto white = [](uint32_t c) { return unicode::is_white_space(c); };
  const auto punctuation = [](uint32_t c) { return unicode::is_punctuation(c); };
  if (type == "Sequence") {
    const Value::List& parts = tree.at("pretokenizers").as_list();
    for (size_t i = 0; i < parts.size(); ++i) add(parts[i], raw_bytes && i + 1 == parts.size());
  } else if (type == "ByteLevel") {
    steps_.push_back(std::make_unique<ByteLevel>(tree, raw_bytes));
  } else if (type == "Split") {
    steps_.push_back(std::make_unique<Split>(tree));
  } else if (type == "Metaspace") {
    steps_.push_back(std::make_unique<Metaspace>(tree));
  } else if (type == "Digits") {
    const bool single = tree.get("individual_digits", false);
    steps_.push_back(split_at([](uint32_t c) { return unicode::is_numeric(c); },
                              single ? SplitBehavior::isolated : SplitBehavior::contiguous));
  } else if (type == "Punctuation") {
    const Value* behavior = tree.find("behavior");
    steps_.push_back(split_at(punctuation, behavior ? parse_behavior(*behavior) : SplitBehavior::isolated));
  } else if (type == "Whitespace") {
    steps_.push_back(std::make_unique<Whitespace>());
  } else if (type == "WhitespaceSplit") {
    steps_.push_back(split_at(white, SplitBehavior::removed));
  } else if (type == "BertPreTokenizer") {
    steps_.push_back(split_at(white, SplitBehavior::removed));
    steps_.push_back(split_at(punctuation, SplitBehavior::isolated));
  } else if (type == "UnicodeScripts") {
    steps_.push_back(std::make_unique<UnicodeScripts>());
  } else if (type == "CharDelimiterSplit") {
    const std::vector<uint32_t> delimiter = characters(tree.at("delimiter").as_string());
    if (delimiter.size() != 1) refuse("CharDelimiterSplit at " + describe(tree.at("delimiter")));
    steps_.push_back(split_at([c = delimiter[0]](uint32_t other) { return other == c; }, SplitBehavior::removed));
  } else if (type == "FixedLength") {
    steps_.push_back(std::make_unique<FixedLength>(tree.get("length", 5)));
  } else {
    refuse(type.empty() ? "a pre-tokenizer without a type" : type);
  }
}

void PreTokenizer::split(AlignedText piece, std::vector<AlignedText>& words, std::vector<AlignedText>& spare) const {
  words.clear();
  words.push_back(std::move(piece));
  for (const auto& step : steps_) {
    spare.clear();
    for (AlignedText& word : words)
      if (!word.empty()) step->split(std::move(word), spare);
    words.swap(spare);
  }
}

}  // namespace ft
