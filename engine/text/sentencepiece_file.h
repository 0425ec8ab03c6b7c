#pragma once
/// A SentencePiece `tokenizer.model`, for model directories that have no tokenizer.json: its pieces, and how
/// transformers' slow Llama and Gemma tokenizers use them. Read here and not by the library: a damaged file makes that
/// one read past its memory, and it brings no archive to link. Used inside engine/text, and by the export to GGUF.

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schema/value.h"
#include "engine/text/byte_trie.h"
#include "engine/text/charsmap.h"
#include "engine/text/tokenizer_file.h"

namespace ft {

/// What TokenizerFile has no place for. Pieces' texts are its vocabulary; a piece's place is its id.
struct SentencePieces {
  enum class Type : uint8_t { normal = 1, unknown, control, user_defined, unused, byte };  // as in the file
  enum class Kind { unigram = 1, bpe = 2 };
  /// Which stretches of a text between added tokens get a "▁" in front: none, each, or the one the text begins with.
  enum class Prefix { none, each, first };

  Kind kind = Kind::unigram;
  std::vector<Type> types;
  std::vector<float> scores;
  int32_t unknown = -1;
  bool byte_fallback = false;
  std::array<int32_t, 256> of_byte{};  ///< with byte_fallback
  ByteTrie user_defined;               ///< symbols that nothing changes or cuts; values are ids
  CharsMap rules;
  bool remove_extra_whitespaces = true;
  bool legacy = true;  ///< transformers' word for: the library's own white space around each stretch
  Prefix prefix = Prefix::each;

  /// The longest user-defined symbol that begins `text`, in bytes; 0 where none does.
  size_t user_defined_at(std::string_view text) const;
};

/// Reads the file and what lies beside it (special_tokens_map.json, added_tokens.json).
/// @param config tokenizer_config.json or null; gets the marks and flags that its tokenizer_class has without saying
/// so, and what only special_tokens_map.json says
/// @throws Error(io); Error(format) for a file that is damaged, of another format, or needs what is not implemented
TokenizerFile read_sentencepiece_file(const std::filesystem::path& file, Value& config);

/// A tokenizer.model whose piece of this id has another text; all else of it keeps its bytes.
/// @throws Error(format) for bytes that are none, or have no such piece
std::string rename_piece(std::string_view model, int64_t id, std::string_view text);

}  // namespace ft
