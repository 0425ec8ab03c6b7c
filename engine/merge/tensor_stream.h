#pragma once
/// One tensor of the merged model as a stream of bytes: read, taken through NF4 where asked, LoRA folded in, rounded
/// once to the target dtype; in blocks, so that memory does not depend on the tensor's size. Used by merge alone, from
/// one thread.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/merge/merge_input.h"

namespace ft {

class TensorStream {
 public:
  /// With a dequantized tensor reads it once whole, for the mean of its absmax; with DoRA, for the norms of its rows.
  TensorStream(const MergeInput& source, const MergeTensor& tensor, int threads);

  /// Fills `block` with the next bytes; false after the last.
  bool next(std::vector<std::byte>& block);
  /// Elements [begin, begin + count) in the target dtype, for whoever wants them in another order; with a dequantized
  /// tensor a range begins at a whole NF4 group. Safe from any thread.
  void chunk(int64_t begin, int64_t count, std::byte* out) const;

 private:
  void through_nf4(const std::byte* raw, int64_t count, float* weight) const;
  std::vector<float> adapted(int64_t begin, int64_t count) const;
  void fold(int64_t begin, int64_t count, float* weight) const;
  void read_adapter();
  void measure_rows();
  float measure_offset() const;

  const MergeInput& source_;
  const MergeTensor& tensor_;
  int threads_;
  int64_t at_ = 0;
  std::vector<float> lora_a_;  // whole, as are the rest
  std::vector<float> lora_b_;  // of an embedding only: A transposed
  std::vector<float> bias_;    // what lora_bias adds
  std::vector<float> rows_;    // DoRA: each row's magnitude / norm
  float offset_ = 0;           // nested offset of the tensor's NF4 scales
};

}  // namespace ft
