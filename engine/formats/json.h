#pragma once
/// JSON text to and from Value. Used by everything that reads a Hugging Face file, a data row, a record or a manifest.
/// Pure functions, safe from any thread.

#include <filesystem>
#include <string>
#include <string_view>

#include "engine/schema/value.h"

namespace ft {

struct JsonOptions {
  bool refuse_duplicates = false;  ///< a key that stands twice in a map is an error; else the last one counts
  bool origins = true;  ///< values remember file and line; false for big files and data rows (40 bytes a value)
  int first_line = 1;   ///< number of the text's first line in `file`: a row of a JSONL file
};

/// Reads one JSON value; order of keys is kept. Integers beyond 64 bits become numbers; NaN, Infinity and -Infinity are
/// taken, as Python writes them; a byte order mark is skipped.
/// @param file named in messages and origins.   @throws Error(format) at file:line, for text that is not JSON or UTF-8.
Value parse_json(std::string_view text, const std::string& file, const JsonOptions& options = {});

/// Reads a file.   @throws Error(io) when it cannot be read, Error(format) as parse_json.
Value read_json(const std::filesystem::path& path, const JsonOptions& options = {});

/// Writes a value as Python's json.dumps(ensure_ascii=False) spaces it: on one line for indent < 0. Numbers are the
/// shortest text that reads back to the same bits, always with a point or an exponent, so that they stay numbers.
std::string write_json(const Value& value, int indent = -1);

}  // namespace ft
