#include "engine/text/added_tokens.h"

#include <algorithm>

#include "engine/text/unicode.h"

namespace ft {
namespace {

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  size_t before = begin, behind = end;
  if (begin > 0 && unicode::is_word(unicode::previous_char(text, before))) return false;
  return end == text.size() || !unicode::is_word(unicode::next_char(text, behind));
}

size_t skip_space_back(std::string_view text, size_t begin) {
  while (begin > 0) {
    size_t before = begin;
    if (!unicode::is_white_space(unicode::previous_char(text, before))) break;
    begin = before;
  }
  return begin;
}

size_t skip_space(std::string_view text, size_t end) {
  while (end < text.size()) {
    size_t behind = end;
    if (!unicode::is_white_space(unicode::next_char(text, behind))) break;
    end = behind;
  }
  return end;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (patterns[i].empty() || trie_.find(patterns[i]) != ByteTrie::kNoValue) continue;  // of two alike the first
    first_[static_cast<unsigned char>(patterns[i][0])] = true;
    trie_.insert(patterns[i], static_cast<int32_t>(i));
  }
}

int32_t AddedTokenMatcher::longest_at(std::string_view text, size_t at, size_t& end) const {
  int32_t found = -1;
  uint32_t node = ByteTrie::kRoot;
  for (size_t i = at; i < text.size(); ++i) {
    node = trie_.step(node, static_cast<unsigned char>(text[i]));
    if (node == ByteTrie::kNone) break;
    if (trie_.value(node) == ByteTrie::kNoValue) continue;
    found = trie_.value(node);
    end = i + 1;
  }
  return found;
}

void AddedTokenMatcher::split(std::string_view text, std::vector<TextSpan>& spans) const {
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !tokens_.empty();) {
    size_t end = 0;
    const int32_t index = first_[static_cast<unsigned char>(text[at])] ? longest_at(text, at, end) : -1;
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(index)];
    size_t begin = at, stop = end;
    at = end;  // whether it is taken or not, the search goes on behind it
    if (token.single_word && !stands_alone(text, begin, stop)) continue;
    if (token.lstrip) begin = std::max(skip_space_back(text, begin), done);
    if (token.rstrip) stop = skip_space(text, stop);
    if (done < begin) spans.push_back({done, begin, TextSpan::kPlain});
    spans.push_back({begin, stop, token.id});
    done = stop;
  }
  if (done < text.size()) spans.push_back({done, text.size(), TextSpan::kPlain});
}

}  // namespace ft
