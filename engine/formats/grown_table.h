#pragma once
/// Tables of a model with more rows than their files hold: the embedding, and a head of its own, of a vocabulary with
/// added tokens. Rows that no file has begin as transformers' resize_token_embeddings has them: as the mean of the old
/// ones, or normal. Made by ModelDirectory::grow; const members are safe from any thread, and what a row holds depends
/// on the files, the plan and its place alone, never on who reads it.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/formats/safetensors.h"
#include "engine/schema/value.h"

namespace ft {

/// What a plan's model.grown says.
struct Growth {
  enum class Begin {
    mean,    ///< of the old rows. transformers adds noise of a variance of 1e-9 of theirs, which bf16 cannot hold
    normal,  ///< of mean 0, drawn by place: transformers' mean_resizing=False
  };
  std::vector<std::string> tensors{};  ///< those that the directory lacks are passed over: a tied head's
  int64_t rows = 0;                    ///< of each of them afterwards
  Begin begin = Begin::mean;
  double scale = 0;   ///< standard deviation of normal rows
  uint64_t seed = 0;  ///< of normal rows

  /// @param value { tensors, rows, begin, scale, seed }; as to_value() writes it
  static Growth read(const Value& value);
  Value to_value() const;
};

class GrownTable {
 public:
  /// Fills `out` with the bytes of the stored table from an offset.
  using Read = std::function<void(uint64_t byte_offset, std::span<std::byte> out)>;
  /// @throws Error(shape) for a tensor that is no table [rows, columns], or has more rows than it is to have
  GrownTable(const TensorEntry& stored, const Growth& growth);

  const TensorEntry& entry() const { return entry_; }  ///< of the whole table
  /// Fills `out` with whole elements of the grown table. The first read of a new row that begins as the mean reads
  /// the old ones once, a block after the other.
  void read(uint64_t byte_offset, std::span<std::byte> out, const Read& stored) const;

 private:
  void make_rows(int64_t begin, int64_t count, std::byte* out, const Read& stored) const;
  void measure(const Read& stored) const;

  TensorEntry entry_;
  uint64_t stored_bytes_;
  Growth growth_;
  mutable std::once_flag measured_;
  mutable std::vector<float> mean_;  // of the old rows, [columns]
};

}  // namespace ft
