#include "engine/formats/locked_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "engine/formats/file_error.h"

namespace ft {

LockedFile::LockedFile(const std::filesystem::path& path, const std::function<void()>& waiting) {
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw file_error(path, "cannot write", errno);
  while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    try {
      if (reason != EWOULDBLOCK && reason != EINTR) throw file_error(path, "cannot lock", reason);
      waiting();
    } catch (...) {
      ::close(descriptor_);
      throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

LockedFile::~LockedFile() { ::close(descriptor_); }

}  // namespace ft
