#include "engine/formats/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "engine/error/error.h"
#include "engine/formats/file_error.h"

namespace ft {
namespace {

constexpr size_t kBlock = 1 << 20;

}  // namespace

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  // Without O_NONBLOCK a pipe under a file's name would be waited for without end.
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) throw file_error(path_, "cannot open", errno);
  struct stat status {};
  const int error = ::fstat(descriptor_, &status) != 0 ? errno
                    : S_ISDIR(status.st_mode)          ? EISDIR
                    : S_ISFIFO(status.st_mode)         ? ESPIPE
                                                       : 0;
  if (error != 0) {
    ::close(descriptor_);
    throw file_error(path_, "cannot read", error);
  }
  size_ = static_cast<uint64_t>(status.st_size);
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

void InputFile::read(uint64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::pread(descriptor_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw file_error(path_, "cannot read", errno);
    if (got == 0)
      throw Error(ErrorKind::io, "ends at byte " + std::to_string(offset + done) + ", want " +
                                     std::to_string(offset + out.size()) + ": was it cut short while it was open?")
          .at(path_.string());
    done += static_cast<size_t>(got);
  }
}

struct OutputFile::Hash {
  Hash() : state(XXH3_createState()) {
    FT_CHECK(state != nullptr, "no memory for a checksum");
    XXH3_64bits_reset(state);
  }
  ~Hash() { XXH3_freeState(state); }
  XXH3_state_t* state;
};

OutputFile::OutputFile(std::filesystem::path path)
    : path_(std::move(path)),
      temporary_(path_.string() + ".tmp-" + std::to_string(::getpid())),
      hash_(std::make_unique<Hash>()) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw file_error(path_, "cannot write", errno);
}

OutputFile::~OutputFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void OutputFile::write(std::span<const std::byte> bytes) {
  XXH3_64bits_update(hash_->state, bytes.data(), bytes.size());
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = ::write(descriptor_, bytes.data() + done, bytes.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) throw file_error(path_, "cannot write", errno);
    done += static_cast<size_t>(wrote);
  }
  size_ += bytes.size();
}

uint64_t OutputFile::checksum() const { return XXH3_64bits_digest(hash_->state); }

void OutputFile::commit() {
  FT_CHECK(descriptor_ >= 0, "a file is committed once");
  if (::fsync(descriptor_) != 0) throw file_error(path_, "cannot write", errno);
  if (::close(std::exchange(descriptor_, -1)) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary_.c_str());
    throw file_error(path_, "cannot write", reason);
  }
  sync_directory(path_.parent_path());
}

uint64_t checksum(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t file_checksum(const std::filesystem::path& path) {
  const InputFile file(path);
  std::vector<std::byte> block(std::min<uint64_t>(kBlock, std::max<uint64_t>(file.size(), 1)));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  FT_CHECK(state != nullptr, "no memory for a checksum");
  XXH3_64bits_reset(state.get());
  for (uint64_t at = 0; at < file.size(); at += block.size()) {
    const std::span part(block.data(), std::min<uint64_t>(block.size(), file.size() - at));
    file.read(at, part);
    XXH3_64bits_update(state.get(), part.data(), part.size());
  }
  return XXH3_64bits_digest(state.get());
}

std::string read_text(const std::filesystem::path& path) {
  const InputFile file(path);
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void write_text(const std::filesystem::path& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.commit();
}

void copy_whole(const std::filesystem::path& from, const std::filesystem::path& to) {
  const InputFile in(from);
  OutputFile out(to);
  std::vector<std::byte> block(std::min<uint64_t>(kBlock, in.size()));
  for (uint64_t at = 0; at < in.size(); at += block.size()) {
    const std::span part(block.data(), std::min<uint64_t>(block.size(), in.size() - at));
    in.read(at, part);
    out.write(part);
  }
  out.commit();
}

void sync_directory(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory.empty() ? "." : directory;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw file_error(path, "cannot open", errno);
  const int reason = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  // Some file systems (FUSE, some network mounts) cannot sync a directory; the file itself is on disk by then.
  if (reason != 0 && reason != EINVAL && reason != ENOTSUP) throw file_error(path, "cannot sync", reason);
}

}  // namespace ft
