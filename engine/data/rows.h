#pragma once
/// Rows of a data file, one ft::Value each, with the line they stand on. Owns the open file; read by plans before
/// training. Thread rule: one reader, one thread. Every rank reads the whole file, so that all agree on its rows.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "engine/data/column_rows.h"
#include "engine/data/row_format.h"
#include "engine/schema/value.h"

namespace ft {

/// Reads JSONL or a JSON array of objects, and by the end of the name CSV (.csv), tab-separated values (.tsv) and plain
/// text (.txt, .text, .md); each as it is, or compressed by gzip or Zstandard; and Parquet (.parquet) and Arrow
/// (.arrow, .feather) where the plugin is there.
class RowReader {
 public:
  /// @param unit what a row of a plain text is
  /// @param uses which columns of Parquet and Arrow files are wanted; empty: all that can be read
  /// @throws Error(io) when the file cannot be opened.
  explicit RowReader(std::filesystem::path path, TextUnit unit = TextUnit::line, const UsesColumn& uses = {});

  /// The next row, a map whose origin is file:line, or file:row; nothing at the end of the file.
  /// @throws Error(format) with file:line for text that is not of the file's format, or no object.
  std::optional<Value> next();
  /// Passes over a row.   @return false at the end
  bool skip();
  int64_t line() const { return rows_->line(); }               ///< line the last row began on, 1-based
  int64_t count() const { return count_; }                     ///< rows read so far, those passed over included
  uint64_t bytes_read() const { return rows_->bytes_read(); }  ///< of the file

 private:
  std::filesystem::path path_;
  std::unique_ptr<RowFormat> rows_;
  int64_t count_ = 0;
};

/// Whether a name ends as those of data files do: .jsonl, .json, .csv, .tsv, .txt, .text, .md, each with .gz or .zst;
/// or .parquet, .arrow, .feather.
bool is_data_file(const std::filesystem::path& path);

/// All rows of a file.   @throws as RowReader, and Error(format) for a file without rows.
std::vector<Value> read_rows(const std::filesystem::path& path);

/// Which of `rows` rows are held out for validation: round(fraction · rows) of them, at least one of two or more,
/// chosen by a hash of (seed, row index): the same on every machine. "train" is the rest.   @throws Error(config)
/// unless 0 < fraction < 1.
std::vector<bool> held_out_rows(int64_t rows, double fraction, uint64_t seed);

}  // namespace ft
