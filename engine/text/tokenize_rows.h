#pragma once
/// Rows of JSON to rows of JSON: what `ftengine tokenize` does. Called by the command through lua/bind; threads of its
/// own, none are left when it returns. No collective.

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

class Tokenizer;

struct TokenizeRows {
  bool special_tokens = true;  ///< what the file's template puts around a text
  bool decode = false;         ///< adds the ids' text; rows may have `ids` in place of `text`
  int threads = 1;
  int64_t first_line = 1;  ///< number of the first line, for messages
};

/// @param lines {"text": …}, with a "pair" perhaps, or a bare JSON string; with `decode` also {"ids": […]}
/// @return {"ids": […]} for each, with `decode` also "text"; ids are cut and padded as tokenizer.json states
/// @throws Error(format) with "stdin:LINE" for a row that is neither, or text that is not UTF-8
std::vector<std::string> tokenize_rows(const Tokenizer& tokenizer, const std::vector<std::string>& lines,
                                       const TokenizeRows& options);

}  // namespace ft
