#pragma once
/// Writes a ZIP archive of stored members front to back, into a stream that cannot seek: sizes are known before the
/// bytes, checksums follow them (PKWARE APPNOTE.TXT, 4.3.9), as torch.save's writer does it. Used by the DCP export;
/// one thread.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ft {

class ZipStream {
 public:
  /// A member's header, to be written before its bytes.   @param align of its first byte from the archive's first on.
  std::string begin_member(std::string name, uint64_t size, uint64_t align = 1);
  /// Counts in bytes of the member that are written.
  void wrote(std::span<const std::byte> bytes);
  /// What follows the member's last byte.
  std::string end_member();
  /// A whole member.
  std::string member(std::string name, const std::string& bytes);
  /// The directory: what follows the last member.
  std::string finish();

 private:
  struct Entry {
    std::string name;
    uint64_t offset = 0, size = 0;
    uint32_t checksum = 0;
  };
  std::string counted(std::string text) {
    at_ += text.size();
    return text;
  }
  std::vector<Entry> entries_;
  uint64_t at_ = 0;
};

/// CRC-32 of zlib and ZIP (polynomial 0xedb88320), going on from that of the bytes before.
uint32_t crc32(std::span<const std::byte> bytes, uint32_t before = 0);

}  // namespace ft
