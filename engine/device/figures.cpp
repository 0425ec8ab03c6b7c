#include "engine/device/figures.h"

#include <cmath>
#include <cstdio>

namespace ft {
namespace {

template <class... Arguments>
std::string format(const char* pattern, Arguments... arguments) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, arguments...);
  return text;
}

}  // namespace

std::string bytes_text(double bytes) {
  const char* const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  int unit = 0;
  // 999.5 would be printed as 1000.
  while (std::abs(bytes) >= 999.5 && unit < 5) {
    bytes /= 1000;
    ++unit;
  }
  const int decimals = unit == 0 ? 0 : std::abs(bytes) >= 99.95 ? 0 : std::abs(bytes) >= 9.995 ? 1 : 2;
  return format("%.*f %s", decimals, bytes, units[unit]);
}

std::string count_text(int64_t count) {
  std::string digits = std::to_string(count);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > (count < 0 ? 1 : 0); at -= 3) digits.insert(at, ",");
  return digits;
}

std::string duration_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  const long long total = std::llround(seconds), hours = total / 3600;
  const int minutes = static_cast<int>(total / 60 % 60), rest = static_cast<int>(total % 60);
  if (hours >= 24) return format("%lldd %02lld:%02d", hours / 24, hours % 24, minutes);
  if (hours > 0) return format("%lld:%02d:%02d", hours, minutes, rest);
  return format("%d:%02d", minutes, rest);
}

std::string short_text(double value) {
  if (value == 0) return "0";
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const double size = std::abs(value);
  if (size < 1e-3 || size >= 1e5) return format("%.3e", value);
  return format("%.*f", size < 10 ? 4 : size < 100 ? 3 : size < 1000 ? 2 : 1, value);
}

}  // namespace ft
