#include "engine/data/row_format.h"
#include "engine/data/text_source.h"

namespace ft {
namespace {

class TextRows : public RowFormat {
 public:
  TextRows(const std::filesystem::path& path, TextUnit unit) : source_(path), unit_(unit) {}

  std::optional<Value> next() override {
    if (!skip()) return std::nullopt;
    return Value::map({{"text", std::move(text_)}});
  }
  bool skip() override { return unit_ == TextUnit::line ? next_line() : next_document(); }
  int64_t line() const override { return line_; }
  uint64_t bytes_read() const override { return source_.bytes_read(); }

 private:
  bool next_line() {
    while (source_.line(text_)) {
      ++line_;
      if (text_.find_first_not_of(" \t\r") != std::string::npos) return true;
    }
    return false;
  }

  bool next_document() {
    text_.clear();
    line_ = 1;
    for (int c; (c = source_.get()) >= 0;) {
      text_ += static_cast<char>(c);
      check_row_size(text_.size(), source_.path().string());
    }
    return text_.find_first_not_of(" \t\r\n") != std::string::npos;
  }

  TextSource source_;
  TextUnit unit_;
  std::string text_;
  int64_t line_ = 0;
};

}  // namespace

std::unique_ptr<RowFormat> open_text_rows(const std::filesystem::path& path, TextUnit unit) {
  return std::make_unique<TextRows>(path, unit);
}

}  // namespace ft
