#pragma once
/// For tests that read compressed samples.

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

namespace ft::test {

/// The bytes that `gzip -dc` makes of a file; "" where it cannot.
inline std::string gunzip(const std::filesystem::path& file) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(("gzip -dc '" + file.string() + "'").c_str(), "r"), pclose);
  std::string out;
  char buffer[1 << 16];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe.get())) > 0;) out.append(buffer, n);
  return out;
}

}  // namespace ft::test
