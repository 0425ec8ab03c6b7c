#include "engine/text/normalizer.h"

#include "engine/error/error.h"
#include "engine/text/byte_level.h"
#include "engine/text/find.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

using Change = AlignedText::Change;

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<const Normalizer>> parts) : parts_(std::move(parts)) {}
  void apply(AlignedText& text) const override {
    for (const auto& part : parts_) part->apply(text);
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> parts_;
};

class Replace : public Normalizer {
 public:
  explicit Replace(const Value& tree) : finder_(Finder::parse(tree.at("pattern"))), content_(tree.get("content", "")) {}
  void apply(AlignedText& text) const override { text.replace(finder_.matches(text.text()), content_); }

 private:
  Finder finder_;
  std::string content_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(const Value& tree) : text_(tree.at("prepend").as_string()) {}
  void apply(AlignedText& text) const override { text.prepend(text_); }

 private:
  std::string text_;
};

class Strip : public Normalizer {
 public:
  explicit Strip(const Value& tree) : left_(tree.get("strip_left", true)), right_(tree.get("strip_right", true)) {}
  void apply(AlignedText& text) const override {
    const std::string_view in = text.text();
    size_t begin = 0, end = in.size();
    for (size_t at = 0; left_ && at < in.size() && unicode::is_white_space(unicode::next_char(in, at));) begin = at;
    for (size_t at = end; right_ && at > begin && unicode::is_white_space(unicode::previous_char(in, at));) end = at;
    if (begin == 0 && end == in.size()) return;
    std::vector<Change> changes;
    for (const uint32_t c : characters(in.substr(begin, end - begin))) changes.push_back({c, 0});
    text.transform(changes, characters(in.substr(0, begin)).size());
  }

 private:
  bool left_, right_;
};

class Lowercase : public Normalizer {
 public:
  void apply(AlignedText& text) const override {
    std::vector<Change> changes;
    changes.reserve(text.text().size());
    bool changed = false;
    for (const uint32_t c : characters(text.text())) {
      constexpr uint32_t kDottedI = 0x130, kDotAbove = 0x307;  // the only one whose lower case is two characters
      const uint32_t lower = c == kDottedI ? 'i' : unicode::lower(c);
      changed |= lower != c;
      changes.push_back({lower, 0});
      if (c == kDottedI) changes.push_back({kDotAbove, 1});
    }
    if (changed) text.transform(changes);
  }
};

class StripAccents : public Normalizer {
 public:
  void apply(AlignedText& text) const override {
    text.filter([](uint32_t c) { return !unicode::is_combining_mark(c); });
  }
};

/// Replaces characters one by one, where `change` says so.
template <typename Map>
void map_characters(AlignedText& text, const Map& map) {
  std::vector<Change> changes;
  bool changed = false;
  for (const uint32_t c : characters(text.text())) {
    changes.push_back({map(c), 0});
    changed |= changes.back().c != c;
  }
  if (changed) text.transform(changes);
}

/// BERT's BasicTokenizer (google-research/bert, tokenization.py), with the tables of `tokenizers`.
class Bert : public Normalizer {
 public:
  explicit Bert(const Value& tree)
      : clean_(tree.get("clean_text", true)),
        space_chinese_(tree.get("handle_chinese_chars", true)),
        lowercase_(tree.get("lowercase", true)),
        strip_accents_(tree.get("strip_accents", lowercase_)) {}

  void apply(AlignedText& text) const override {
    if (clean_) {
      constexpr uint32_t kReplacement = 0xFFFD;
      text.filter([](uint32_t c) { return c != 0 && c != kReplacement && !unicode::is_bert_control(c); });
      map_characters(text, [](uint32_t c) { return unicode::is_white_space(c) ? uint32_t{' '} : c; });
    }
    if (space_chinese_) space_chinese(text);
    if (strip_accents_) {
      decompose(text);
      text.filter([](uint32_t c) { return !unicode::is_bert_mark(c); });
    }
    if (lowercase_) Lowercase().apply(text);
  }

 private:
  static bool is_chinese(uint32_t c) {
    constexpr unicode::Range kBlocks[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                          {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                          {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (const auto& [first, last] : kBlocks)
      if (c >= first && c <= last) return true;
    return false;
  }

  static void space_chinese(AlignedText& text) {
    std::vector<Change> changes;
    bool changed = false;
    for (const uint32_t c : characters(text.text())) {
      if (is_chinese(c)) {
        changed = true;
        changes.insert(changes.end(), {{' ', 0}, {c, 1}, {' ', 1}});
      } else {
        changes.push_back({c, 0});
      }
    }
    if (changed) text.transform(changes);
  }

  bool clean_, space_chinese_, lowercase_, strip_accents_;
};

/// SentencePiece's nmt rules: control characters out, odd white space to spaces.
class Nmt : public Normalizer {
 public:
  void apply(AlignedText& text) const override {
    text.filter([](uint32_t c) {
      return !((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F ||
               c == 0x9F);
    });
    map_characters(text, [](uint32_t c) {
      const bool space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                         (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF ||
                         c == 0xFFFD;
      return space ? uint32_t{' '} : c;
    });
  }
};

class ByteLevelSpelling : public Normalizer {
 public:
  void apply(AlignedText& text) const override { byte_level::spell(text); }
};

std::unique_ptr<const Normalizer> parse_sequence(const Value& parts) {
  std::vector<std::unique_ptr<const Normalizer>> out;
  for (const Value& part : parts.as_list()) out.push_back(parse_normalizer(part));
  return std::make_unique<Sequence>(std::move(out));
}

}  // namespace

std::unique_ptr<const Normalizer> parse_normalizer(const Value& tree) {
  if (tree.is_null()) return std::make_unique<Sequence>(std::vector<std::unique_ptr<const Normalizer>>());
  const std::string type = tree.get("type", "");
  if (type == "Sequence") return parse_sequence(tree.at("normalizers"));
  if (auto form = unicode_form(type)) return form;
  if (type == "Replace") return std::make_unique<Replace>(tree);
  if (type == "Prepend") return std::make_unique<Prepend>(tree);
  if (type == "Strip") return std::make_unique<Strip>(tree);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "StripAccents") return std::make_unique<StripAccents>();
  if (type == "Precompiled") return precompiled_normalizer(tree.at("precompiled_charsmap").as_string());
  if (type == "BertNormalizer") return std::make_unique<Bert>(tree);
  if (type == "Nmt") return std::make_unique<Nmt>();
  if (type == "ByteLevel") return std::make_unique<ByteLevelSpelling>();
  throw Error(ErrorKind::format, (type.empty() ? "a normalizer without a type" : type) + " is not implemented")
      .key("normalizer");
}

}  // namespace ft
