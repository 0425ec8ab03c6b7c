#include "engine/text/wire_format.h"

#include <cstring>

#include "engine/error/error.h"

namespace ft {

float WireField::as_float() const {
  const auto bits = static_cast<uint32_t>(value);
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

uint64_t WireReader::varint() {
  constexpr int kBits = 64, kBitsPerByte = 7;
  uint64_t out = 0;
  for (int shift = 0; shift < kBits && !in_.empty(); shift += kBitsPerByte) {
    const auto byte = static_cast<unsigned char>(in_.front());
    in_.remove_prefix(1);
    out |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return out;
  }
  throw Error(ErrorKind::format, "has a number without an end");
}

std::string_view WireReader::take(uint64_t size) {
  if (size > in_.size()) throw Error(ErrorKind::format, "ends within a field");
  const std::string_view out = in_.substr(0, size);
  in_.remove_prefix(size);
  return out;
}

std::optional<WireField> WireReader::next() {
  if (in_.empty()) return std::nullopt;
  enum Type { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  const uint64_t tag = varint();
  constexpr uint64_t kMostFields = 1 << 29;
  if (tag >> 3 == 0 || tag >> 3 >= kMostFields) throw Error(ErrorKind::format, "has a field without a number");
  WireField field{static_cast<uint32_t>(tag >> 3), 0, {}, false};
  switch (tag & 7) {
    case kVarint:
      field.value = varint();
      return field;
    case kFixed64:
    case kFixed32: {
      const std::string_view bytes = take((tag & 7) == kFixed64 ? 8 : 4);
      std::memcpy(&field.value, bytes.data(), bytes.size());
      return field;
    }
    case kBytes:
      field.bytes = take(varint());
      field.has_bytes = true;
      return field;
    default:
      throw Error(ErrorKind::format, "has a field of an unknown type");
  }
}

std::string wire_bytes(uint32_t number, std::string_view bytes) {
  constexpr uint64_t kLengthDelimited = 2;
  std::string out;
  const auto put = [&](uint64_t value) {
    for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
    out += static_cast<char>(value);
  };
  put(uint64_t{number} << 3 | kLengthDelimited);
  put(bytes.size());
  return out.append(bytes);
}

}  // namespace ft
