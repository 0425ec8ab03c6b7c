#include "engine/text/byte_level.h"

#include <array>

#include "engine/text/unicode.h"

namespace ft::byte_level {
namespace {

constexpr uint32_t kFirstExtra = 0x100;  // where the bytes without a visible character of their own are put
constexpr size_t kNumExtra = 68;

struct Tables {
  std::array<uint32_t, 256> chars{};
  std::array<int, kFirstExtra + kNumExtra> bytes{};
  constexpr Tables() {
    for (int& b : bytes) b = -1;
    uint32_t extra = kFirstExtra;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool visible = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      chars[b] = visible ? b : extra++;
      bytes[chars[b]] = static_cast<int>(b);
    }
  }
};
constexpr Tables kTables;

}  // namespace

uint32_t char_of(unsigned char byte) { return kTables.chars[byte]; }

int byte_of(uint32_t c) { return c < kTables.bytes.size() ? kTables.bytes[c] : -1; }

std::string spell(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char b : bytes) unicode::append_utf8(out, char_of(static_cast<unsigned char>(b)));
  return out;
}

void spell(AlignedText& text) {
  std::vector<AlignedText::Change> changes;
  changes.reserve(text.text().size());
  for (const char b : text.text()) {
    const bool first = (static_cast<unsigned char>(b) & 0xC0) != 0x80;
    changes.push_back({char_of(static_cast<unsigned char>(b)), first ? 0 : 1});
  }
  if (!changes.empty()) text.transform(changes);
}

std::string unspell(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const int byte = byte_of(unicode::next_char(text, at));
    if (byte < 0) return std::string(text);
    out += static_cast<char>(byte);
  }
  return out;
}

}  // namespace ft::byte_level
