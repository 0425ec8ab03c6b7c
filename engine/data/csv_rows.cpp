#include <fmt/format.h>

#include <algorithm>

#include "engine/data/row_format.h"
#include "engine/data/text_source.h"
#include "engine/error/error.h"

namespace ft {
namespace {

class CsvRows : public RowFormat {
 public:
  CsvRows(const std::filesystem::path& path, char separator) : source_(path), separator_(separator) {
    if (!record()) return;
    names_ = fields_;
    for (size_t i = 0; i < names_.size(); ++i)
      if (std::find(names_.begin() + static_cast<std::ptrdiff_t>(i) + 1, names_.end(), names_[i]) != names_.end())
        fail(fmt::format("two columns are called '{}'", names_[i]), "the first line names the columns");
  }

  std::optional<Value> next() override {
    if (!skip()) return std::nullopt;
    Value::Map row;
    row.reserve(names_.size());
    for (size_t i = 0; i < names_.size(); ++i) row.emplace_back(names_[i], std::move(fields_[i]));
    return Value(std::move(row));
  }
  bool skip() override {
    if (!record()) return false;
    if (fields_.size() != names_.size())
      fail(fmt::format("{} fields, want {} as the first line has names", fields_.size(), names_.size()),
           "a field that holds a separator, a quote or a line end stands in double quotes");
    return true;
  }
  int64_t line() const override { return line_; }
  uint64_t bytes_read() const override { return source_.bytes_read(); }

 private:
  [[noreturn]] void fail(const std::string& message, const char* help) const {
    throw Error(ErrorKind::format, message)
        .at(Origin{source_.path().string(), static_cast<int>(line_)}.str())
        .help(help);
  }

  /// One record into fields_; empty lines are passed over.
  bool record() {
    while (source_.peek() == '\n' || source_.peek() == '\r') next_line_ += source_.get() == '\n';
    line_ = next_line_;
    if (source_.peek() < 0) return false;
    fields_.clear();
    bytes_ = 0;
    while (field()) {
    }
    return true;
  }

  /// Adds one field.   @return whether another follows on the record
  bool field() {
    std::string& out = fields_.emplace_back();
    if (source_.peek() == '"') quoted(out);
    for (int c; (c = source_.get()) >= 0;) {
      if (c == separator_) return true;
      if (c == '\r' && source_.peek() == '\n') c = source_.get();
      if (c == '\n') return ++next_line_, false;
      if (closed_) fail("text behind a closing quote", "a quote inside a quoted field is doubled");
      add(out, c);
    }
    return false;
  }

  void quoted(std::string& out) {
    source_.get();
    for (int c; (c = source_.get()) >= 0;) {
      next_line_ += c == '\n';
      if (c == '"') {
        const int after = source_.peek();
        if (after != '"') {
          closed_ = after >= 0 && after != separator_ && after != '\r' && after != '\n';
          return;
        }
        source_.get();
      }
      add(out, c);
    }
    fail("a quote is not closed", "a quote inside a quoted field is doubled");
  }

  void add(std::string& out, int c) {
    out += static_cast<char>(c);
    check_row_size(++bytes_, source_.path().string());
  }

  TextSource source_;
  char separator_;
  std::vector<std::string> names_, fields_;
  int64_t line_ = 1, next_line_ = 1;
  size_t bytes_ = 0;     ///< of the record at hand
  bool closed_ = false;  ///< a quoted field ended, and something else than a separator follows
};

}  // namespace

std::unique_ptr<RowFormat> open_csv_rows(const std::filesystem::path& path, char separator) {
  return std::make_unique<CsvRows>(path, separator);
}

}  // namespace ft
