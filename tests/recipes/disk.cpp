// A disk that is slow or full, for tests: preloaded into the program, it stands before write() for checkpoint shards.
// FT_DISK_SLOW_MS: milliseconds that each write takes longer. FT_DISK_FULL: while this file exists, the disk is full.
#include <dlfcn.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" ssize_t write(int fd, const void* bytes, size_t count) {
  using Write = ssize_t (*)(int, const void*, size_t);
  static const auto next = reinterpret_cast<Write>(dlsym(RTLD_NEXT, "write"));
  char link[64], path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length > 0) {
    path[length] = 0;
    if (std::strstr(path, "/shard-")) {
      if (const char* slow = std::getenv("FT_DISK_SLOW_MS")) usleep(static_cast<useconds_t>(1000 * std::atoi(slow)));
      if (const char* full = std::getenv("FT_DISK_FULL"); full && access(full, F_OK) == 0) {
        errno = ENOSPC;
        return -1;
      }
    }
  }
  return next(fd, bytes, count);
}
