#pragma once
/// Rows of a data file, one ft::Value each, with the line they stand on. Owns the open file; read by plans before
/// training. Thread rule: one reader, one thread. Every rank reads the whole file, so that all agree on its rows.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

/// Reads JSONL (a JSON object a line; empty lines are passed over) or a JSON array of objects (a file that begins with
/// '[').
class RowReader {
 public:
  /// @throws Error(io) when the file cannot be opened.
  explicit RowReader(std::filesystem::path path);

  /// The next row, a map whose origin is file:line; nothing at the end of the file.
  /// @throws Error(format) with file:line for text that is not JSON, is not UTF-8, or is not an object.
  std::optional<Value> next();
  int64_t line() const { return line_; }    ///< line the last row began on, 1-based
  int64_t count() const { return count_; }  ///< rows read so far

 private:
  std::optional<Value> next_line();
  std::optional<Value> next_element();
  Value parse(std::string_view text, int64_t line) const;

  std::filesystem::path path_;
  std::ifstream stream_;
  std::string buffer_;  ///< the line, or with an array the whole file
  size_t cursor_ = 0;
  int64_t line_ = 0, cursor_line_ = 1, count_ = 0;
  bool array_ = false, ended_ = false;
};

/// All rows of a file.   @throws as RowReader, and Error(format) for a file without rows.
std::vector<Value> read_rows(const std::filesystem::path& path);

/// Which of `rows` rows are held out for validation: round(fraction · rows) of them, at least one of two or more,
/// chosen by a hash of (seed, row index): the same on every machine. "train" is the rest.   @throws Error(config)
/// unless 0 < fraction < 1.
std::vector<bool> held_out_rows(int64_t rows, double fraction, uint64_t seed);

}  // namespace ft
