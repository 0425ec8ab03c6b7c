#include "engine/formats/zip_stream.h"

#include <array>
#include <cstring>
#include <utility>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kDescriptor = 0x08074b50, kEnd = 0x06054b50,
                   kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr uint16_t kFlags = 0x0808;  // the checksum follows the bytes; names are UTF-8
constexpr uint16_t kVersion = 45;    // the first with ZIP64
constexpr uint64_t kBeyond = 0xffffffff;
constexpr uint64_t kLocalBytes = 30;

// Little-endian fields one after the other.
template <typename... T>
std::string fields(T... values) {
  std::string text;
  (text.append(reinterpret_cast<const char*>(&values), sizeof values), ...);
  return text;
}

constexpr size_t kSlices = 8;
using Tables = std::array<std::array<uint32_t, 256>, kSlices>;

// tables[k][b]: the checksum of byte b with k zero bytes after it, so that eight bytes go in one step.
constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t value = b;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0xedb88320u : 0u);
    tables[0][b] = value;
  }
  for (size_t k = 1; k < kSlices; ++k)
    for (size_t b = 0; b < 256; ++b) tables[k][b] = (tables[k - 1][b] >> 8) ^ tables[0][tables[k - 1][b] & 0xff];
  return tables;
}
constexpr Tables kTables = make_tables();

}  // namespace

uint32_t crc32(std::span<const std::byte> bytes, uint32_t before) {
  uint32_t value = ~before;
  const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
  size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    uint32_t low = 0, high = 0;
    std::memcpy(&low, at, 4);
    std::memcpy(&high, at + 4, 4);
    low ^= value;
    value = kTables[7][low & 0xff] ^ kTables[6][(low >> 8) & 0xff] ^ kTables[5][(low >> 16) & 0xff] ^
            kTables[4][low >> 24] ^ kTables[3][high & 0xff] ^ kTables[2][(high >> 8) & 0xff] ^
            kTables[1][(high >> 16) & 0xff] ^ kTables[0][high >> 24];
  }
  for (; left > 0; --left) value = (value >> 8) ^ kTables[0][(value ^ *at++) & 0xff];
  return ~value;
}

std::string ZipStream::begin_member(std::string name, uint64_t size, uint64_t align) {
  const bool wide = size >= kBeyond;
  std::string extra = wide ? fields(uint16_t{1}, uint16_t{16}, size, size) : std::string();
  const uint64_t data = at_ + kLocalBytes + name.size() + extra.size();
  if (align > 1 && data % align != 0) {
    constexpr uint64_t kExtraHeader = 4;
    const uint64_t pad = (align - (data + kExtraHeader) % align) % align;
    extra += fields(uint16_t{0x4246}, static_cast<uint16_t>(pad)) + std::string(pad, 'Z');  // as torch's writer pads
  }
  const auto small = static_cast<uint32_t>(wide ? kBeyond : size);
  std::string header = fields(kLocal, kVersion, kFlags, uint16_t{0}, uint16_t{0}, uint16_t{0x21}, uint32_t{0}, small,
                              small, static_cast<uint16_t>(name.size()), static_cast<uint16_t>(extra.size())) +
                       name + extra;
  entries_.push_back({std::move(name), at_, size, 0});
  return counted(std::move(header));
}

void ZipStream::wrote(std::span<const std::byte> bytes) {
  entries_.back().checksum = crc32(bytes, entries_.back().checksum);
  at_ += bytes.size();
}

std::string ZipStream::end_member() {
  const Entry& entry = entries_.back();
  const uint32_t checksum = entry.checksum;
  if (entry.size >= kBeyond) return counted(fields(kDescriptor, checksum, entry.size, entry.size));
  const auto size = static_cast<uint32_t>(entry.size);
  return counted(fields(kDescriptor, checksum, size, size));
}

std::string ZipStream::member(std::string name, const std::string& bytes) {
  std::string text = begin_member(std::move(name), bytes.size());
  wrote(std::as_bytes(std::span(bytes)));
  text += bytes;
  return text + end_member();
}

std::string ZipStream::finish() {
  const uint64_t begin = at_;
  std::string text;
  for (const Entry& entry : entries_) {
    const bool wide = entry.size >= kBeyond || entry.offset >= kBeyond;
    const std::string extra =
        wide ? fields(uint16_t{1}, uint16_t{24}, entry.size, entry.size, entry.offset) : std::string();
    const auto size = static_cast<uint32_t>(wide ? kBeyond : entry.size);
    text += fields(kCentral, kVersion, kVersion, kFlags, uint16_t{0}, uint16_t{0}, uint16_t{0x21}, entry.checksum, size,
                   size, static_cast<uint16_t>(entry.name.size()), static_cast<uint16_t>(extra.size()), uint16_t{0},
                   uint16_t{0}, uint16_t{0}, uint32_t{0}, static_cast<uint32_t>(wide ? kBeyond : entry.offset)) +
            entry.name + extra;
  }
  const uint64_t bytes = text.size(), count = entries_.size();
  FT_CHECK(count < 0xffff, "more members than the export makes");
  if (begin + bytes >= kBeyond) {
    text += fields(kEnd64, uint64_t{44}, kVersion, kVersion, uint32_t{0}, uint32_t{0}, count, count, bytes, begin);
    text += fields(kLocator64, uint32_t{0}, begin + bytes, uint32_t{1});
  }
  const auto small = [](uint64_t value) { return static_cast<uint32_t>(value < kBeyond ? value : kBeyond); };
  text += fields(kEnd, uint16_t{0}, uint16_t{0}, static_cast<uint16_t>(count), static_cast<uint16_t>(count),
                 small(bytes), small(begin), uint16_t{0});
  return counted(std::move(text));
}

}  // namespace ft
