#include "engine/text/pre_tokenizer.h"

#include <algorithm>

#include "engine/error/error.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

/// GPT-2's pattern, which ByteLevel uses unless use_regex is false (openai/gpt-2, encoder.py).
constexpr const char* kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

[[noreturn]] void refuse(const std::string& part) {
  throw Error(ErrorKind::format, part + " is not implemented").key("pre_tokenizer");
}

}  // namespace

PreTokenizer PreTokenizer::parse(const Value& tree) {
  PreTokenizer out;
  if (tree.is_null())
    throw Error(ErrorKind::format, "no pre-tokenizer, want one that ends in ByteLevel").key("pre_tokenizer");
  if (tree.get("type", "") == "Sequence") {
    const Value::List& parts = tree.at("pretokenizers").as_list();
    if (parts.empty()) refuse("an empty Sequence");
    for (size_t i = 0; i < parts.size(); ++i) out.add_step(parts[i], i + 1 == parts.size());
  } else {
    out.add_step(tree, true);
  }
  return out;
}

void PreTokenizer::add_step(const Value& tree, bool last) {
  const std::string type = tree.get("type", "");
  if (type == "ByteLevel") {
    if (!last) refuse("ByteLevel before another pre-tokenizer");
    return add_byte_level(tree);
  }
  if (type != "Split" && type != "Digits") refuse(type.empty() ? "a pre-tokenizer without a type" : type);
  if (last) refuse(type + " without ByteLevel behind it");
  type == "Split" ? add_split(tree) : add_digits(tree);
}

void PreTokenizer::add_byte_level(const Value& tree) {
  add_prefix_space_ = tree.get("add_prefix_space", true);
  if (tree.get("use_regex", true)) byte_level_regex_.emplace(translate_pattern(kByteLevelPattern));
}

void PreTokenizer::add_split(const Value& tree) {
  const Value& pattern = tree.at("pattern");
  Step step;
  try {
    if (const Value* regex = pattern.find("Regex")) {
      step.regex.emplace(translate_pattern(regex->as_string()));
    } else if (const Value* text = pattern.find("String"); text && !text->as_string().empty()) {
      step.regex.emplace(literal_pattern(text->as_string()));
    } else {
      refuse("Split by " + describe(pattern));
    }
  } catch (Error& error) {
    throw error.key("pre_tokenizer.Split.pattern");
  }
  step.behavior = parse_behavior(tree.at("behavior"));
  step.invert = tree.get("invert", false);
  steps_.push_back(std::move(step));
}

void PreTokenizer::add_digits(const Value& tree) {
  Step step;
  step.behavior = tree.get("individual_digits", false) ? Behavior::isolated : Behavior::contiguous;
  steps_.push_back(std::move(step));
}

PreTokenizer::Behavior PreTokenizer::parse_behavior(const Value& tree) {
  const std::string& name = tree.as_string();
  if (name == "Isolated") return Behavior::isolated;
  if (name == "Removed") return Behavior::removed;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  refuse("Split behavior " + name);
}

/// The whole text as spans that match and spans that do not, in order.
std::vector<PreTokenizer::Span> PreTokenizer::matches(const Step& step, std::string_view text,
                                                      RegexScratch& scratch) const {
  std::vector<Span> spans;
  size_t done = 0;
  const auto add = [&](size_t begin, size_t end) {
    if (done < begin) spans.push_back({done, begin, step.invert});
    if (begin < end) spans.push_back({begin, end, !step.invert});
    done = end;
  };
  if (!step.regex) {
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      if (unicode::is_numeric(unicode::next_char(text, at))) add(begin, at);
    }
  } else {
    for (size_t from = 0; from < text.size();) {
      const auto match = step.regex->find(text, from, scratch);
      if (!match) break;
      add(match->begin, match->end);
      from = match->end;
      if (match->begin == match->end && from < text.size()) unicode::next_char(text, from);
    }
  }
  if (done < text.size()) spans.push_back({done, text.size(), step.invert});
  return spans;
}

/// What a behavior makes of the spans (tokenizers, normalizer.rs, NormalizedString::split).
std::vector<PreTokenizer::Span> PreTokenizer::apply(Behavior behavior, const std::vector<Span>& spans) {
  std::vector<Span> out;
  bool previous = false;
  switch (behavior) {
    case Behavior::isolated:
      return spans;
    case Behavior::removed:
      std::copy_if(spans.begin(), spans.end(), std::back_inserter(out), [](const Span& s) { return !s.match; });
      return out;
    case Behavior::contiguous:
      for (const Span& s : spans) {
        if (!out.empty() && s.match == previous) {
          out.back().end = s.end;
        } else {
          out.push_back(s);
        }
        previous = s.match;
      }
      return out;
    case Behavior::merged_with_previous:
      for (const Span& s : spans) {
        if (s.match && !previous && !out.empty()) {
          out.back().end = s.end;
        } else {
          out.push_back(s);
        }
        previous = s.match;
      }
      return out;
    case Behavior::merged_with_next:
      for (auto s = spans.rbegin(); s != spans.rend(); ++s) {
        if (s->match && !previous && !out.empty()) {
          out.back().begin = s->begin;
        } else {
          out.push_back(*s);
        }
        previous = s->match;
      }
      std::reverse(out.begin(), out.end());
      return out;
  }
  return spans;
}

void PreTokenizer::split(std::string_view piece, Scratch& scratch) const {
  scratch.words.clear();
  scratch.prefixed.clear();
  if (steps_.size() == 1 && steps_[0].regex && steps_[0].behavior == Behavior::isolated && !byte_level_regex_ &&
      !add_prefix_space_) {  // Llama 3 and Qwen: every match and every gap is a word, whatever `invert` says
    size_t done = 0;
    while (done < piece.size()) {
      const auto match = steps_[0].regex->find(piece, done, scratch.regex);
      if (!match || match->begin == match->end) break;
      if (done < match->begin) byte_level(piece, done, match->begin, scratch);
      byte_level(piece, match->begin, match->end, scratch);
      done = match->end;
    }
    if (done == piece.size()) return;
    scratch.words.clear();  // a pattern with empty matches takes the long way
  }
  std::vector<Span> spans{{0, piece.size(), false}};
  for (const Step& step : steps_) {
    std::vector<Span> cut;
    for (const Span& span : spans) {
      const std::string_view text = piece.substr(span.begin, span.end - span.begin);
      for (const Span& s : apply(step.behavior, matches(step, text, scratch.regex)))
        cut.push_back({span.begin + s.begin, span.begin + s.end, s.match});
    }
    spans = std::move(cut);
  }
  for (const Span& span : spans) byte_level(piece, span.begin, span.end, scratch);
}

void PreTokenizer::byte_level(std::string_view piece, size_t begin, size_t end, Scratch& scratch) const {
  std::string_view text = piece.substr(begin, end - begin);
  auto offset = static_cast<int64_t>(begin);
  if (add_prefix_space_ && !text.starts_with(' ')) {
    text = scratch.prefixed.emplace_back(" " + std::string(text));
    --offset;
  }
  const auto add = [&](size_t from, size_t to) {
    if (from < to) scratch.words.push_back({text.substr(from, to - from), offset + static_cast<int64_t>(from)});
  };
  size_t done = 0;
  while (byte_level_regex_ && done < text.size()) {
    const auto match = byte_level_regex_->find(text, done, scratch.regex);
    if (!match) break;
    add(done, match->begin);
    add(match->begin, match->end);
    done = match->end;
  }
  add(done, text.size());
}

}  // namespace ft
