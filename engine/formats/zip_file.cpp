#include "engine/formats/zip_file.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kLocator64 = 0x07064b50;
constexpr uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20;
constexpr uint64_t kMaxComment = 65535;
constexpr uint64_t kMaxDirectory = uint64_t{64} << 20;  // a member a tensor: 64 MB is half a million of them

template <typename T>
T get(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

class ZipReader {
 public:
  ZipReader(const InputFile& file, uint64_t begin, uint64_t size) : file_(file), begin_(begin), size_(size) {}

  std::vector<ZipMember> read() {
    if (begin_ > file_.size() || size_ > file_.size() - begin_)
      fail("holds " + std::to_string(file_.size()) + " bytes, want an archive in [" + std::to_string(begin_) + ", " +
           std::to_string(begin_) + " + " + std::to_string(size_) + "): it is truncated");
    find_directory();
    const std::string directory = take(directory_begin_, directory_bytes_);
    std::vector<ZipMember> members;
    std::unordered_set<std::string> names;
    for (size_t at = 0; at < directory.size();) {
      members.push_back(member(directory, at));
      if (!names.insert(members.back().name).second) fail("has member '" + members.back().name + "' twice");
    }
    if (members.size() != count_)
      fail("lists " + std::to_string(members.size()) + " members, and says " + std::to_string(count_));
    for (ZipMember& member : members) locate(member);
    return members;
  }

 private:
  std::string take(uint64_t at, uint64_t count) const {
    if (at > size_ || count > size_ - at)
      fail("points outside itself, at byte " + std::to_string(at) + ": is it whole?");
    std::string bytes(count, '\0');
    file_.read(begin_ + at, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  }

  void find_directory() {
    const uint64_t tail_bytes = std::min(size_, kEndBytes + kMaxComment + kLocatorBytes);
    // Archives of torch.save have no comment: the end record is mostly the last 22 bytes.
    const uint64_t first = std::min(size_, kEndBytes + kLocatorBytes);
    if (!find_directory_in(take(size_ - first, first)) && !find_directory_in(take(size_ - tail_bytes, tail_bytes)))
      fail("has no end of a ZIP archive: it is truncated, or no archive");
  }

  bool find_directory_in(const std::string& tail) {
    for (size_t at = tail.size() < kEndBytes ? std::string::npos : tail.size() - kEndBytes; at != std::string::npos;
         at = at == 0 ? std::string::npos : at - 1) {
      if (get<uint32_t>(tail, at) != kEnd || at + kEndBytes + get<uint16_t>(tail, at + 20) != tail.size()) continue;
      count_ = get<uint16_t>(tail, at + 10);
      directory_bytes_ = get<uint32_t>(tail, at + 12);
      directory_begin_ = get<uint32_t>(tail, at + 16);
      if (at >= kLocatorBytes && get<uint32_t>(tail, at - kLocatorBytes) == kLocator64)
        read_end64(get<uint64_t>(tail, at - kLocatorBytes + 8));
      if (directory_bytes_ > kMaxDirectory)
        fail("has a directory of " + std::to_string(directory_bytes_) + " bytes, want at most " +
             std::to_string(kMaxDirectory));
      return true;
    }
    return false;
  }

  void read_end64(uint64_t at) {
    const std::string record = take(at, kEnd64Bytes);
    if (get<uint32_t>(record, 0) != kEnd64) fail("has no ZIP64 end where it says");
    count_ = get<uint64_t>(record, 32);
    directory_bytes_ = get<uint64_t>(record, 40);
    directory_begin_ = get<uint64_t>(record, 48);
  }

  ZipMember member(const std::string& directory, size_t& at) const {
    if (directory.size() - at < kCentralBytes || get<uint32_t>(directory, at) != kCentral)
      fail("has a broken directory");
    const auto flags = get<uint16_t>(directory, at + 8), method = get<uint16_t>(directory, at + 10);
    uint64_t packed = get<uint32_t>(directory, at + 20);
    const uint64_t name_bytes = get<uint16_t>(directory, at + 28), extra_bytes = get<uint16_t>(directory, at + 30),
                   comment_bytes = get<uint16_t>(directory, at + 32);
    const uint64_t whole = kCentralBytes + name_bytes + extra_bytes + comment_bytes;
    if (whole > directory.size() - at) fail("has a broken directory");
    ZipMember result;
    result.name = directory.substr(at + kCentralBytes, name_bytes);
    result.size = get<uint32_t>(directory, at + 24);
    result.offset = get<uint32_t>(directory, at + 42);
    read_extra64(std::string_view(directory).substr(at + kCentralBytes + name_bytes, extra_bytes), packed, result);
    if ((flags & 1) != 0) fail("has member '" + result.name + "' encrypted");
    if (method != 0 || packed != result.size) fail("has member '" + result.name + "' compressed, want it stored");
    at += whole;
    return result;
  }

  // ZIP64: what does not fit 32 bits stands in an extra field, in this order.
  static void read_extra64(std::string_view extra, uint64_t& packed, ZipMember& member) {
    constexpr uint64_t kBeyond = 0xffffffff;
    for (size_t at = 0; extra.size() - at >= 4;) {
      const auto id = get<uint16_t>(extra, at), bytes = get<uint16_t>(extra, at + 2);
      if (bytes > extra.size() - at - 4) return;
      std::string_view field = extra.substr(at + 4, bytes);
      at += 4u + bytes;
      if (id != 1) continue;
      for (uint64_t* value : {&member.size, &packed, &member.offset}) {
        if (*value != kBeyond || field.size() < 8) continue;
        *value = get<uint64_t>(field, 0);
        field.remove_prefix(8);
      }
    }
  }

  // From the local header's place to that of the first byte.
  void locate(ZipMember& member) const {
    const std::string header = take(member.offset, kLocalBytes);
    if (get<uint32_t>(header, 0) != kLocal) fail("has no member '" + member.name + "' where its directory says");
    const uint64_t data = member.offset + kLocalBytes + get<uint16_t>(header, 26) + get<uint16_t>(header, 28);
    if (data > size_ || member.size > size_ - data)
      fail("has member '" + member.name + "' of " + std::to_string(member.size) +
           " bytes, past its end: it is truncated");
    member.offset = begin_ + data;
  }

  [[noreturn]] void fail(const std::string& message) const {
    throw Error(ErrorKind::format, message).at(file_.path().string());
  }

  const InputFile& file_;
  uint64_t begin_, size_;
  uint64_t directory_begin_ = 0, directory_bytes_ = 0, count_ = 0;
};

}  // namespace

std::vector<ZipMember> read_zip(const InputFile& file, uint64_t begin, uint64_t size) {
  return ZipReader(file, begin, size).read();
}

bool looks_like_zip(const InputFile& file, uint64_t begin) {
  uint32_t magic = 0;
  if (begin > file.size() || file.size() - begin < sizeof magic) return false;
  file.read(begin, std::as_writable_bytes(std::span(&magic, 1)));
  return magic == kLocal;
}

}  // namespace ft
