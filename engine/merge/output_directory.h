#pragma once
/// A directory that appears whole or not at all: written under a temporary name beside its place, renamed at the end.
/// Used by merge alone, from one thread.

#include <cstdint>
#include <filesystem>

namespace ft {

class OutputDirectory {
 public:
  /// @throws Error(config) when `path` exists and is not an empty directory; Error(io) when it cannot be made, or the
  /// disk has less than `bytes` free.
  OutputDirectory(const std::filesystem::path& path, uint64_t bytes);
  ~OutputDirectory();  ///< removes what was not committed
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }            ///< where it will stand
  const std::filesystem::path& temporary() const { return temporary_; }  ///< where it is written
  /// Renames it into place.   @throws Error(io)
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  bool committed_ = false;
};

}  // namespace ft
