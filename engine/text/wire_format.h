#pragma once
/// Protocol Buffers' wire format (protobuf.dev/programming-guides/encoding), as far as reading messages of known
/// fields, and putting others in their place, needs it. Used inside engine/text only.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ft {

/// A field of a message: a number (varint or fixed) or bytes.
struct WireField {
  uint32_t number;
  uint64_t value = 0;
  std::string_view bytes;
  bool has_bytes = false;
  float as_float() const;  ///< of a fixed 32-bit number
};

class WireReader {
 public:
  explicit WireReader(std::string_view message) : in_(message) {}
  /// The next field, or nothing at the end.   @throws Error(format) where the message is cut or is none
  std::optional<WireField> next();
  size_t left() const { return in_.size(); }  ///< bytes behind the last field

 private:
  uint64_t varint();
  std::string_view take(uint64_t size);

  std::string_view in_;
};

/// A field of bytes, as a message holds it.
std::string wire_bytes(uint32_t number, std::string_view bytes);

}  // namespace ft
