#pragma once
/// The documents of a split as tokens: ids and labels of each, one after the other, with a start per row. Filled by a
/// plan, then shared and read only; or mapped from a cache. Every rank sees all of it (8 bytes a token), so that
/// packing and order are the same everywhere. Thread rule: add from one thread; read from many once it is filled.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/data/examples.h"
#include "engine/schema/value.h"

namespace ft {

class MappedTokens;
class Tokenizer;

constexpr int32_t kIgnoreLabel = -100;  ///< PyTorch's cross_entropy ignore_index

/// What becomes of a row longer than seq_len.
enum class TooLong { truncate, drop, error };
const char* to_string(TooLong choice);
/// @throws Error(config) listing the choices.
TooLong parse_too_long(const std::string& name);

struct TokenRowsOptions {
  int64_t seq_len = 0;     ///< tokens a row may have; 0: no limit
  int64_t vocab_size = 0;  ///< ids must lie below; 0: not checked
  TooLong too_long = TooLong::truncate;
  int64_t together = 1;  ///< documents that follow each other and share a row: 2 of a preference's pairs
};

class TokenRows {
 public:
  /// What became of the rows that were offered.
  struct Counts {
    int64_t offered = 0, kept = 0;
    int64_t truncated = 0, tokens_cut = 0;  ///< rows shortened to seq_len, and what they lost
    int64_t dropped = 0;                    ///< longer than seq_len
    int64_t untrained = 0;                  ///< left out: no target among their (remaining) tokens
  };

  explicit TokenRows(TokenRowsOptions options = {});
  /// The rows of a cache; nothing can be added.   @throws Error(format) for a record that is none of record()
  explicit TokenRows(std::shared_ptr<const MappedTokens> mapped);

  /// Adds one document. Labels belong to their own position: labels[t] is learnt from the tokens before t, so that
  /// labels[0] never counts.   @return whether the row was kept.
  /// @throws Error(format) at `origin` for ids outside the vocabulary, labels outside it other than -100, different
  /// lengths, and for a row that is too long under TooLong::error.
  bool add(std::span<const int32_t> ids, std::span<const int32_t> labels, const Origin& origin = {});

  /// tokenize_joined(), then add().
  bool add_segments(const Tokenizer& tokenizer, const std::vector<Segment>& segments, bool add_special_tokens = false,
                    const Origin& origin = {});

  int64_t size() const { return static_cast<int64_t>(starts().size()) - 1; }  ///< rows kept
  std::span<const int32_t> ids(int64_t row) const { return document(row).first(static_cast<size_t>(length(row))); }
  std::span<const int32_t> labels(int64_t row) const { return document(row).last(static_cast<size_t>(length(row))); }
  int64_t length(int64_t row) const { return starts()[row + 1] - starts()[row]; }
  int64_t line(int64_t row) const { return lines()[row]; }  ///< line of the file it came from, 0 when unknown
  std::span<const int64_t> starts() const;                  ///< first token of each row, and the end
  std::span<const int64_t> lines() const;
  std::vector<int64_t> lengths() const;
  int64_t longest() const;
  int64_t num_tokens() const { return starts().back(); }
  int64_t num_targets() const { return num_targets_; }  ///< labels other than -100, first positions left out
  const Counts& counts() const { return counts_; }
  const TokenRowsOptions& options() const { return options_; }

  /// Whether the tokens of a row that came from a cache are tokens at all; those that were added have been checked.
  /// @throws Error(format) naming the cache
  void check_mapped(int64_t row) const;
  bool is_mapped() const { return mapped_ != nullptr; }

  /// Moves the tokens added since the last call out: those rows' ids and labels cannot be read any more.
  std::vector<int32_t> take_tokens();
  /// Options and counts, as a cache keeps them.
  Value record() const;

  /// @throws Error(format) at `file` for a split without rows, or without a single target, saying what became of them.
  void check_trainable(const std::string& file) const;
  /// One line for the start report: "1,204 rows, 310,221 tokens, 82,113 trained; 12 truncated to 512 (9,310 tokens
  /// cut)".
  std::string report() const;

 private:
  void check_row(std::span<const int32_t> ids, std::span<const int32_t> labels, const Origin& origin) const;
  std::span<const int32_t> document(int64_t row) const;

  TokenRowsOptions options_;
  std::vector<int32_t> tokens_;  ///< of each row its ids, then its labels
  std::vector<int64_t> starts_{0}, lines_;
  int64_t num_targets_ = 0, taken_ = 0;  ///< taken_: tokens that were moved out
  Counts counts_;
  std::shared_ptr<const MappedTokens> mapped_;  ///< in place of the vectors
};

}  // namespace ft
