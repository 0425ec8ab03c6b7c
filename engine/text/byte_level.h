#pragma once
/// GPT-2's spelling of bytes as printable characters, in which byte-level vocabularies are written: visible Latin-1
/// bytes stand for themselves, the 68 others for U+0100 and up (openai/gpt-2, encoder.py, bytes_to_unicode). Pure
/// functions.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/text/aligned_text.h"

namespace ft::byte_level {

/// The character that stands for a byte.
uint32_t char_of(unsigned char byte);
/// The byte a character stands for, or -1.
int byte_of(uint32_t c);
/// Spells bytes as characters.
std::string spell(std::string_view bytes);
/// The bytes of a spelling; the text itself when a character of it stands for no byte (`tokenizers`, ByteLevel
/// decoder).
std::string unspell(std::string_view text);

/// Replaces a text by its spelling; each character of it stands for the one its byte came from.
void spell(AlignedText& text);

}  // namespace ft::byte_level
