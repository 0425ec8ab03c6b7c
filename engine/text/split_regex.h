#pragma once
/// The patterns of Split pre-tokenizers. They are written for Oniguruma with its Unicode tables; here PCRE2 runs them,
/// with every class (\p{L}, \s, [^…]) written out from our own tables, since the two libraries' tables differ. What
/// cannot be said so is refused by name. Used inside engine/text only; const calls may come from many threads; each
/// thread has its own matching memory.

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace ft {

/// Rewrites an Oniguruma pattern for PCRE2.
/// @throws Error(format) naming the construct: "regex escape '\b' is not implemented".
std::string translate_pattern(std::string_view pattern);
/// A pattern that matches `text` itself.
std::string literal_pattern(std::string_view text);

class SplitRegex {
 public:
  struct Match {
    size_t begin, end;
  };

  /// @param translated a pattern from one of the functions above   @throws Error(format) when PCRE2 refuses it
  explicit SplitRegex(const std::string& translated);
  ~SplitRegex();
  SplitRegex(SplitRegex&&) noexcept;
  SplitRegex& operator=(SplitRegex&&) noexcept;

  /// The first match that begins at or after `from`, by PCRE2's JIT.   @param text valid UTF-8
  std::optional<Match> find(std::string_view text, size_t from) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace ft
