#include <algorithm>

#include "engine/data/row_format.h"
#include "engine/data/text_source.h"
#include "engine/error/error.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

class JsonRows : public RowFormat {
 public:
  explicit JsonRows(const std::filesystem::path& path) : source_(path) {
    skip_space();
    array_ = source_.peek() == '[';
    if (array_) source_.get();
  }

  std::optional<Value> next() override {
    if (!skip()) return std::nullopt;
    const std::string file = source_.path().string();
    Value row = parse_json(text_, file, {.origins = false, .first_line = static_cast<int>(line_)});
    if (!row.is_map())
      throw Error(ErrorKind::format, std::string("got ") + describe(row) + ", want a JSON object a row")
          .at(Origin{file, static_cast<int>(line_)}.str())
          .help("a data file is JSONL (an object a line) or one JSON list of objects");
    return row;
  }
  bool skip() override {
    if (ended_ || !(array_ ? next_element() : next_line())) return ended_ = true, false;
    return true;
  }
  int64_t line() const override { return line_; }
  uint64_t bytes_read() const override { return source_.bytes_read(); }

 private:
  /// Passes over white space, and counts its lines.
  void skip_space() {
    for (int c; (c = source_.peek()) >= 0 && kSpace.find(static_cast<char>(c)) != std::string_view::npos;)
      next_line_ += source_.get() == '\n';
  }

  bool next_line() {
    while (source_.line(text_)) {
      line_ = next_line_++;
      if (text_.find_first_not_of(kSpace) != std::string::npos) return true;
    }
    return false;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::format, "not valid JSON: " + what)
        .at(Origin{source_.path().string(), static_cast<int>(next_line_)}.str());
  }
  void want_more() {
    skip_space();
    if (source_.peek() < 0) fail("the file ends inside its list of rows");
  }

  bool next_element() {
    want_more();
    if (source_.peek() == ']') {
      source_.get();
      skip_space();
      if (source_.peek() >= 0) fail("text after the list of rows");
      return false;
    }
    if (!first_) {
      if (source_.get() != ',') fail("want ',' or ']' after a row");
      want_more();
    }
    first_ = false;
    line_ = next_line_;
    take_value();
    return true;
  }

  /// The text of a value: through its closing bracket, or up to the comma that follows a bare word. Looks at brackets
  /// and strings only; the parser sees to the rest.
  void take_value() {
    text_.clear();
    int depth = 0;
    bool quoted = false;
    for (int c; (c = source_.peek()) >= 0;) {
      if (!quoted && depth == 0 && (c == ',' || c == ']' || c == '}')) return;
      take();
      if (quoted) {
        if (c == '\\' && source_.peek() >= 0) take();
        if (c == '"') quoted = false;
      } else if (c == '"') {
        quoted = true;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if ((c == '}' || c == ']') && --depth == 0) {
        return;
      }
    }
  }
  void take() {
    const int c = source_.get();
    next_line_ += c == '\n';
    text_ += static_cast<char>(c);
    check_row_size(text_.size(), source_.path().string());
  }

  TextSource source_;
  std::string text_;  ///< of the row at hand
  int64_t line_ = 0, next_line_ = 1;
  bool array_ = false, first_ = true, ended_ = false;
};

}  // namespace

std::unique_ptr<RowFormat> open_json_rows(const std::filesystem::path& path) {
  return std::make_unique<JsonRows>(path);
}

}  // namespace ft
