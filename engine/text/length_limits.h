#pragma once
/// How long tokenizer.json says that a text's tokens may be, or a pair's, and how short: its `truncation` and `padding`
/// (truncation.rs and padding.rs of Hugging Face `tokenizers`). Used inside engine/text only; a value.

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

class LengthLimits {
 public:
  /// @throws Error(format) naming what is not implemented
  LengthLimits(const Value& truncation, const Value& padding);

  /// How many tokens are kept of a text, or of a text and its pair.
  /// @param added how many will be put around them
  /// @throws Error(format) where the strategy leaves no way to be short enough
  std::pair<size_t, size_t> kept(size_t first, std::optional<size_t> second, size_t added) const;
  /// Takes tokens away at the side that `truncation` names.
  template <typename Token>
  void shorten(std::vector<Token>& tokens, size_t size) const {
    if (tokens.size() <= size) return;
    const auto excess = static_cast<std::ptrdiff_t>(tokens.size() - size);
    cut_left_ ? tokens.erase(tokens.begin(), tokens.begin() + excess)
              : tokens.erase(tokens.end() - excess, tokens.end());
  }
  void pad(std::vector<int32_t>& ids) const;

 private:
  enum class Strategy { longest_first, only_first, only_second };

  std::optional<size_t> most_;
  Strategy strategy_ = Strategy::longest_first;
  bool cut_left_ = false;
  size_t least_ = 0, multiple_ = 0;
  bool pad_left_ = false;
  std::optional<int32_t> pad_id_;
};

}  // namespace ft
