#pragma once
/// What each kind of data file gives a RowReader: its rows, one after the other, with the line each began on. One
/// thread.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "engine/schema/value.h"

namespace ft {

class RowFormat {
 public:
  virtual ~RowFormat() = default;
  /// The next row, a map without an origin; nothing at the end.   @throws Error(format) with file:line
  virtual std::optional<Value> next() = 0;
  /// Passes over a row where that costs less than to read it.   @return false at the end
  virtual bool skip() { return next().has_value(); }
  virtual int64_t line() const = 0;         ///< the line, or row, that the last one began on, 1-based
  virtual uint64_t bytes_read() const = 0;  ///< of the file
};

/// A JSON object a line (empty lines are passed over), or a JSON array of objects (a file that begins with '[').
std::unique_ptr<RowFormat> open_json_rows(const std::filesystem::path& path);

/// RFC 4180: the first line names the columns, fields may be quoted and then hold separators, line ends and doubled
/// quotes. All values are strings; an absent one is "".   @param separator ',' or a tab
/// @throws Error(format) for names that stand twice, and rows of another length than the names
std::unique_ptr<RowFormat> open_csv_rows(const std::filesystem::path& path, char separator);

/// {"text": …} for each line of a text that is not empty, as Hugging Face's `text` builder has it; or for the whole
/// file.
enum class TextUnit { line, document };
std::unique_ptr<RowFormat> open_text_rows(const std::filesystem::path& path, TextUnit unit);

}  // namespace ft
