#pragma once
/// Numbers as a person reads them. Pure functions.

#include <cstdint>
#include <string>

namespace ft {

/// "512 B", "1.5 kB", "23.4 MB", "1.23 GB": decimal units, three significant digits.
std::string bytes_text(double bytes);
/// "1,234,567".
std::string count_text(int64_t count);
/// "0:07", "12:34", "1:02:03", "2d 03:04".
std::string duration_text(double seconds);
/// "0.1234", "12.35", "1.235e-05": four significant digits; "nan", "inf".
std::string short_text(double value);

}  // namespace ft
