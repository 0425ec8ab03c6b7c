#include "engine/data/rows.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/tensor/counter_random.h"

namespace ft {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kSpace = " \t\r\n";

/// Where the value that begins at `at` ends: behind its closing bracket, or before the comma that follows a bare word.
/// Looks at brackets and strings only; the parser sees to the rest.
size_t end_of_value(std::string_view text, size_t at) {
  int depth = 0;
  bool quoted = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') ++at;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return at;
      if (--depth == 0) return at + 1;
    } else if (c == ',' && depth == 0) {
      return at;
    }
  }
  return std::min(at, text.size());
}

}  // namespace

RowReader::RowReader(std::filesystem::path path) : path_(std::move(path)) {
  const InputFile probe(path_);  // its message names the path and the system's reason
  stream_.open(path_, std::ios::binary);
  char c = 0;
  std::string head(kByteOrderMark.size(), '\0');
  stream_.read(head.data(), static_cast<std::streamsize>(head.size()));
  const bool marked = head == kByteOrderMark;
  stream_.clear();
  stream_.seekg(marked ? static_cast<std::streamoff>(kByteOrderMark.size()) : 0);
  const std::streamoff begin = stream_.tellg();
  while (stream_.get(c) && kSpace.find(c) != std::string_view::npos) {
  }
  array_ = stream_ && c == '[';
  stream_.clear();
  stream_.seekg(begin);
  if (!array_) return;
  buffer_ = read_text(path_).substr(static_cast<size_t>(begin));
  cursor_ = buffer_.find('[') + 1;
  cursor_line_ += std::count(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(cursor_), '\n');
}

std::optional<Value> RowReader::next() {
  if (ended_) return std::nullopt;
  std::optional<Value> row = array_ ? next_element() : next_line();
  ended_ = !row;
  count_ += row ? 1 : 0;
  return row;
}

std::optional<Value> RowReader::next_line() {
  while (std::getline(stream_, buffer_)) {
    line_ = cursor_line_++;
    if (buffer_.find_first_not_of(kSpace) != std::string::npos) return parse(buffer_, line_);
  }
  if (stream_.bad())
    throw Error(ErrorKind::io, "stopped being readable").at(Origin{path_.string(), static_cast<int>(line_)}.str());
  return std::nullopt;
}

std::optional<Value> RowReader::next_element() {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::format, "not valid JSON: " + what)
        .at(Origin{path_.string(), static_cast<int>(cursor_line_)}.str());
  };
  const auto skip_space = [&] {
    for (; cursor_ < buffer_.size() && kSpace.find(buffer_[cursor_]) != std::string_view::npos; ++cursor_)
      cursor_line_ += buffer_[cursor_] == '\n';
    if (cursor_ >= buffer_.size()) fail("the file ends inside its list of rows");
  };
  skip_space();
  if (count_ > 0 && buffer_[cursor_] != ']') {
    if (buffer_[cursor_] != ',') fail("want ',' or ']' after a row");
    ++cursor_;
    skip_space();
  } else if (buffer_[cursor_] == ']') {
    if (const size_t more = buffer_.find_first_not_of(kSpace, cursor_ + 1); more != std::string::npos)
      fail("text after the list of rows");
    return std::nullopt;
  }
  const size_t end = end_of_value(buffer_, cursor_);
  const std::string_view text = std::string_view(buffer_).substr(cursor_, end - cursor_);
  line_ = cursor_line_;
  cursor_line_ += std::count(text.begin(), text.end(), '\n');
  cursor_ = end;
  return parse(text, line_);
}

Value RowReader::parse(std::string_view text, int64_t line) const {
  JsonOptions options;
  options.origins = false;
  options.first_line = static_cast<int>(line);
  Value row = parse_json(text, path_.string(), options);
  row.origin = {path_.string(), static_cast<int>(line)};
  if (!row.is_map())
    throw Error(ErrorKind::format, std::string("got ") + describe(row) + ", want a JSON object a row")
        .at(row.origin.str())
        .help("a data file is JSONL (an object a line) or one JSON list of objects");
  return row;
}

std::vector<Value> read_rows(const std::filesystem::path& path) {
  RowReader reader(path);
  std::vector<Value> rows;
  while (std::optional<Value> row = reader.next()) rows.push_back(std::move(*row));
  if (rows.empty()) throw Error(ErrorKind::format, "is an empty data set: no rows").at(path.string());
  return rows;
}

std::vector<bool> held_out_rows(int64_t rows, double fraction, uint64_t seed) {
  if (!(fraction > 0 && fraction < 1))
    throw Error(ErrorKind::config, "got " + std::to_string(fraction) + ", want a fraction between 0 and 1")
        .key("split");
  std::vector<bool> out(static_cast<size_t>(rows), false);
  if (rows < 2) return out;
  const auto count = std::clamp<int64_t>(std::llround(fraction * static_cast<double>(rows)), 1, rows - 1);
  const CounterRandom random(seed, "data.split");
  std::vector<int64_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  std::nth_element(order.begin(), order.begin() + (count - 1), order.end(), [&](int64_t a, int64_t b) {
    const uint64_t x = random.bits(static_cast<uint64_t>(a)), y = random.bits(static_cast<uint64_t>(b));
    return x != y ? x < y : a < b;
  });
  for (int64_t i = 0; i < count; ++i) out[static_cast<size_t>(order[i])] = true;
  return out;
}

}  // namespace ft
