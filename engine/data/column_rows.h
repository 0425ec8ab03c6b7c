#pragma once
/// Rows of files that lie by columns, Parquet and Arrow's: which of their columns are wanted, and the way to the plugin
/// that reads them, libftengine_arrow.so (*_arrow.cpp; nothing else includes Arrow). It is opened at the first such
/// file. Called by RowReader. Any thread opens, one reads.

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "engine/data/row_format.h"

namespace ft {

/// Whether a column's values are wanted. Of the others a row has the names alone, with null.
using UsesColumn = std::function<bool(const std::string& name)>;

/// @param path .parquet; or .arrow and .feather, whose first bytes say whether it is Arrow's file or stream
/// @param uses empty: all columns are, as far as they can be read
/// @throws Error(config) where the plugin is absent, with what brings it; Error(format) for a file that is damaged, or
/// has a wanted column of a type that JSON has no like of (timestamps, decimals, bytes), by the column's name
std::unique_ptr<RowFormat> open_column_rows(const std::filesystem::path& path, const UsesColumn& uses);

/// What the plugin exports: as open_column_rows; the caller owns the result.
using OpenColumnRows = RowFormat*(const std::filesystem::path& path, const UsesColumn& uses);
constexpr const char* kOpenColumnRows = "ftengine_open_column_rows";

}  // namespace ft
