#include "lua/boundary/place.h"

#include <cctype>
#include <fstream>
#include <iterator>
#include <lua.hpp>
#include <vector>

namespace ft {
namespace {

bool word_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

/// Walks Lua text token by token; strings and comments are passed over.
class Scanner {
 public:
  Scanner(const std::string& text, size_t at, int line) : text_(&text), at_(at), line_(line) {}

  int line() const { return line_; }

  /// The next word or single character; "" at the end. A string comes as "\"".
  std::string next() {
    while (at_ < text_->size()) {
      const char c = (*text_)[at_];
      if (c == '\n') ++line_;
      if (std::isspace(static_cast<unsigned char>(c))) {
        ++at_;
      } else if (text_->compare(at_, 2, "--") == 0) {
        if (!long_bracket(at_ + 2)) skip_to_line_end();
      } else if (c == '"' || c == '\'') {
        skip_string(c);
        return "\"";
      } else if (c == '[' && long_bracket(at_)) {
        return "\"";
      } else if (word_char(c)) {
        const size_t begin = at_;
        while (at_ < text_->size() && word_char((*text_)[at_])) ++at_;
        return text_->substr(begin, at_ - begin);
      } else {
        return std::string(1, (*text_)[at_++]);
      }
    }
    return "";
  }

 private:
  void skip_to_line_end() {
    while (at_ < text_->size() && (*text_)[at_] != '\n') ++at_;
  }
  void skip_string(char quote) {
    for (++at_; at_ < text_->size() && (*text_)[at_] != quote && (*text_)[at_] != '\n'; ++at_)
      if ((*text_)[at_] == '\\') ++at_;
    ++at_;
  }
  bool long_bracket(size_t at) {
    if (at >= text_->size() || (*text_)[at] != '[') return false;
    size_t level = at + 1;
    while (level < text_->size() && (*text_)[level] == '=') ++level;
    if (level >= text_->size() || (*text_)[level] != '[') return false;
    const std::string close = "]" + std::string(level - at - 1, '=') + "]";
    const size_t end = text_->find(close, level);
    for (size_t i = at_; i < std::min(end, text_->size()); ++i) line_ += (*text_)[i] == '\n';
    at_ = end == std::string::npos ? text_->size() : end + close.size();
    return true;
  }

  const std::string* text_;
  size_t at_;
  int line_;
};

struct Level {
  std::string path;     // of the table
  std::string key;      // of the entry being read
  int unnamed = 0;      // values without a key so far
  bool fresh = true;    // nothing of the entry has been read
  int parentheses = 0;  // open inside the entry
};

class LiteralReader {
 public:
  LiteralReader(const std::string& text, size_t at, int line) : scanner_(text, at, line) {}

  std::map<std::string, KeyPlace> read() {
    std::string token = scanner_.next();
    while (!token.empty() && token != "{") token = scanner_.next();
    if (token.empty()) return {};
    levels_.push_back({});
    for (token = scanner_.next(); !token.empty() && !levels_.empty(); token = levels_.empty() ? "" : scanner_.next())
      take(token);
    return std::move(places_);
  }

 private:
  static std::string join(const std::string& path, const std::string& key) {
    return path.empty() ? key : path + "." + key;
  }

  void take(const std::string& token) {
    Level& level = levels_.back();
    if (token == "(") ++level.parentheses;
    if (token == ")") --level.parentheses;
    if (token == "}") {
      levels_.pop_back();
    } else if (level.parentheses == 0 && (token == "," || token == ";")) {
      level.fresh = true;
    } else if (level.fresh) {
      begin_entry(token);
    } else if (token == "{") {
      levels_.push_back({join(level.path, level.key), "", 0, true, 0});
    } else {
      refer(token);
    }
    before_ = token;
  }

  void begin_entry(const std::string& token) {
    Level& level = levels_.back();
    level.fresh = false;
    const int line = scanner_.line();
    Scanner ahead = scanner_;
    if (word_char(token[0]) && ahead.next() == "=") {
      level.key = token;
      scanner_ = ahead;
    } else {
      level.key = "[" + std::to_string(++level.unnamed) + "]";
    }
    places_.emplace(join(level.path, level.key), KeyPlace{line, ""});
    if (token == "{") levels_.push_back({join(level.path, level.key), "", 0, true, 0});
  }

  /// `key = opt.lr`: the word behind the dot.
  void refer(const std::string& token) {
    if (before_ != "." || !word_char(token[0])) return;
    KeyPlace& place = places_[join(levels_.back().path, levels_.back().key)];
    if (place.reference.empty()) place.reference = token;
  }

  Scanner scanner_;
  std::vector<Level> levels_;
  std::map<std::string, KeyPlace> places_;
  std::string before_;
};

}  // namespace

Origin caller(lua_State* L) {
  lua_Debug frame{};
  for (int level = 0; lua_getstack(L, level, &frame); ++level) {
    lua_getinfo(L, "Sl", &frame);
    const std::string source = frame.source ? frame.source : "";
    if (frame.currentline <= 0 || source.rfind("@", 0) != 0 || source.rfind("@stdlib/", 0) == 0) continue;
    return {source.substr(1), frame.currentline};
  }
  return {};
}

std::map<std::string, KeyPlace> keys_of_literal(const Origin& origin, const std::string& call) {
  std::ifstream in(origin.file, std::ios::binary);
  if (!in || origin.line < 1) return {};
  const std::string text(std::istreambuf_iterator<char>(in), {});
  size_t at = 0;
  for (int line = 1; line < origin.line; ++line) {
    at = text.find('\n', at);
    if (at == std::string::npos) return {};
    ++at;
  }
  const size_t end = std::min(text.find('\n', at), text.size());
  const size_t found = call.empty() ? std::string::npos : text.find(call, at);
  return LiteralReader(text, found < end ? found : at, origin.line).read();
}

}  // namespace ft
