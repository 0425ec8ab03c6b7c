#pragma once
/// Arrow's values as ours. Part of the Arrow plugin: only *_arrow.cpp includes it. Pure functions.

#include <arrow/type_fwd.h>

#include <cstdint>
#include <string>

#include "engine/schema/value.h"

namespace ft {

/// What of a type JSON has no like of: "timestamp[us]" of list<timestamp[us]>; "" where all of it can be read. Texts
/// (every kind of them), integers, floats, booleans, null, lists (every kind), structs, maps whose keys are texts,
/// dictionaries and extensions of these can. Structs with two fields of one name cannot.
std::string unreadable_part(const arrow::DataType& type);

/// The value at `i` of an array that was validated in full. An integer above 2^63 - 1 becomes a number.
/// @param bytes grows by what the value comes to, about that of its JSON
/// @throws Error(format) at `place` where that is more than a row may have
Value cell(const arrow::Array& array, int64_t i, size_t& bytes, const std::string& place);

}  // namespace ft
