#pragma once
/// Unicode normal form C as `tokenizers` computes it: utf8proc's, but for the marks its older table does not know. Pure
/// functions; no thread rules.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

/// A text in NFC, with the way back to the text it was made from.
struct NormalizedText {
  std::string text;
  /// A stretch that changed: bytes [begin, end) of `text` came from [from, to) of the input. In order; between two of
  /// them bytes correspond one to one.
  struct Change {
    uint32_t begin, end, from, to;
  };
  std::vector<Change> changes;

  uint32_t source_begin(uint32_t at) const;  ///< where byte `at` came from
  uint32_t source_end(uint32_t at) const;    ///< the end of where the byte before `at` came from
};

/// @param text valid UTF-8
NormalizedText normalize_nfc(std::string_view text);

}  // namespace ft
