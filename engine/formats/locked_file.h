#pragma once
/// The lock under which processes of one machine make one file in turn (flock).

#include <filesystem>
#include <functional>

namespace ft {

/// Held by one process of those that share the file at a time; freed with the guard, or with the process.
class LockedFile {
 public:
  /// Makes the file where there is none, and waits until it is held.
  /// @param waiting is called every 50 ms while another holds it; it may throw.   @throws Error(io)
  LockedFile(const std::filesystem::path& path, const std::function<void()>& waiting);
  ~LockedFile();
  LockedFile(const LockedFile&) = delete;
  LockedFile& operator=(const LockedFile&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace ft
