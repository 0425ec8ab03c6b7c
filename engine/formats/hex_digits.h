#pragma once
/// How checksums are written in names and records.

#include <cstdint>
#include <string>

namespace ft {

/// 16 hexadecimal digits, lower-case.
std::string hex_digits(uint64_t value);

}  // namespace ft
