#include "engine/formats/file_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/file_error.h"

namespace ft {
namespace {

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags, const char* what)
      : value(::open(path.c_str(), flags, 0666)) {
    if (value < 0) throw file_error(path, what, errno);
  }
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value;
};

}  // namespace

FileMap::FileMap(const std::filesystem::path& path) {
  const Descriptor file(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, "cannot read");
  struct stat status {};
  if (::fstat(file.value, &status) != 0) throw file_error(path, "cannot read", errno);
  if (!S_ISREG(status.st_mode)) throw file_error(path, "cannot map", EINVAL);
  if (status.st_size == 0) return;  // the system maps no empty range
  void* data = ::mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_SHARED, file.value, 0);
  if (data == MAP_FAILED) throw file_error(path, "cannot map", errno);
  data_ = static_cast<const std::byte*>(data);
  size_ = static_cast<size_t>(status.st_size);
}

FileMap::~FileMap() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void FileMap::read_ahead(uint64_t offset, uint64_t bytes) const {
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = offset / page * page;
  ::madvise(const_cast<std::byte*>(data_) + begin, offset + bytes - begin, MADV_WILLNEED);
}

NewFileMap::NewFileMap(std::filesystem::path path, uint64_t bytes)
    : path_(std::move(path)), temporary_(path_.string() + ".tmp-" + std::to_string(::getpid())), size_(bytes) {
  descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw file_error(path_, "cannot write", errno);
  int reason = ::posix_fallocate(descriptor_, 0, static_cast<off_t>(bytes));
  if (reason == 0) {
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0);
    reason = data == MAP_FAILED ? errno : 0;
    if (reason == 0) data_ = static_cast<std::byte*>(data);
  }
  if (reason == 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
  throw file_error(path_, "cannot write " + std::to_string(bytes) + " bytes", reason);
}

NewFileMap::~NewFileMap() {
  ::munmap(data_, size_);
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void NewFileMap::commit(std::string_view behind) {
  FT_CHECK(descriptor_ >= 0, "a file is committed once");
  const ssize_t wrote = ::pwrite(descriptor_, behind.data(), behind.size(), static_cast<off_t>(size_));
  if (wrote != static_cast<ssize_t>(behind.size())) throw file_error(path_, "cannot write", wrote < 0 ? errno : ENOSPC);
  if (::fsync(descriptor_) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0)
    throw file_error(path_, "cannot write", errno);
  ::close(std::exchange(descriptor_, -1));
  sync_directory(path_.parent_path());
}

void append_to_file(const std::filesystem::path& path, std::string_view text) {
  const Descriptor file(path, O_WRONLY | O_APPEND | O_CLOEXEC, "cannot write");
  const ssize_t wrote = ::write(file.value, text.data(), text.size());
  if (wrote != static_cast<ssize_t>(text.size())) throw file_error(path, "cannot write", wrote < 0 ? errno : ENOSPC);
  if (::fsync(file.value) != 0) throw file_error(path, "cannot write", errno);
}

}  // namespace ft
