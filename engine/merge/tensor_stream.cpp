#include "engine/merge/tensor_stream.h"

#include <algorithm>

#include "engine/merge/fold.h"
#include "engine/merge/parallel_chunks.h"
#include "engine/quant/nf4.h"
#include "engine/tensor/half.h"

namespace ft {
namespace {

constexpr int64_t kChunk =
    4 * nf4::kGroup;                     // elements a thread works on: 256 KiB of fp32, within its second-level cache
constexpr int64_t kBlock = 64 * kChunk;  // elements of a block: 16 MiB of fp32

int64_t chunks_of(int64_t count) { return (count + kChunk - 1) / kChunk; }

}  // namespace

TensorStream::TensorStream(const MergeInput& source, const MergeTensor& tensor, int threads)
    : source_(source), tensor_(tensor), threads_(threads) {
  if (tensor.lora) {
    const int64_t count = tensor.lora->rank * tensor.shape[1];
    lora_a_.resize(static_cast<size_t>(count));
    source.read_lora(tensor.lora->a, 0, count, lora_a_.data());
  }
  if (tensor.dequantized && source.double_quant()) offset_ = measure_offset();
}

bool TensorStream::next(std::vector<std::byte>& block) {
  const int64_t count = std::min(kBlock, tensor_.numel() - at_);
  if (count <= 0) return false;
  const size_t width = byte_size(tensor_.target);
  block.resize(static_cast<size_t>(count) * width);
  parallel_chunks(threads_, chunks_of(count), [&](int64_t i) {
    const int64_t begin = i * kChunk;
    chunk(at_ + begin, std::min(kChunk, count - begin), block.data() + static_cast<size_t>(begin) * width);
  });
  at_ += count;
  return true;
}

void TensorStream::chunk(int64_t begin, int64_t count, std::byte* out) const {
  const bool as_is = tensor_.stored == tensor_.target && !tensor_.lora && !tensor_.dequantized;
  if (as_is) return source_.read(tensor_, begin, count, out);
  std::vector<std::byte> raw(static_cast<size_t>(count) * byte_size(tensor_.stored));
  source_.read(tensor_, begin, count, raw.data());
  std::vector<float> weight(static_cast<size_t>(count));
  if (tensor_.dequantized)
    through_nf4(raw.data(), count, weight.data());
  else
    to_fp32(tensor_.stored, raw.data(), count, weight.data());
  if (tensor_.lora) fold(begin, count, weight.data());
  from_fp32(weight.data(), count, tensor_.target, out);
}

// Chunks begin at whole groups, so that records come out as they do for the whole tensor.
void TensorStream::through_nf4(const std::byte* raw, int64_t count, float* weight) const {
  const bool double_quant = source_.double_quant();
  std::vector<uint8_t> record(nf4::record_bytes(double_quant));
  float absmax[nf4::kNestedBlock];
  for (int64_t at = 0; at < count; at += nf4::kGroup) {
    const int64_t in_group = std::min(nf4::kGroup, count - at);
    nf4::quantize_codes(tensor_.stored, raw + static_cast<size_t>(at) * byte_size(tensor_.stored), in_group,
                        record.data(), absmax);
    nf4::store_scales({absmax, static_cast<size_t>(nf4::num_blocks(in_group))}, offset_, double_quant, record.data());
    nf4::dequantize({record.data(), offset_, double_quant}, 0, in_group, DType::f32, weight + at);
  }
}

void TensorStream::fold(int64_t begin, int64_t count, float* weight) const {
  const int64_t in = tensor_.shape[1], rank = tensor_.lora->rank;
  const int64_t first_row = begin / in, rows = (begin + count - 1) / in + 1 - first_row;
  std::vector<float> b(static_cast<size_t>(rows * rank));
  source_.read_lora(tensor_.lora->b, first_row * rank, rows * rank, b.data());
  fold_lora({in, rank, begin, count, lora_a_.data(), b.data(), source_.scale()}, weight);
}

float TensorStream::measure_offset() const {
  const int64_t numel = tensor_.numel();
  std::vector<double> sums(static_cast<size_t>(nf4::num_groups(numel)));
  parallel_chunks(threads_, chunks_of(numel), [&](int64_t i) {
    const int64_t begin = i * kChunk, count = std::min(kChunk, numel - begin);
    const size_t width = byte_size(tensor_.stored);
    std::vector<std::byte> raw(static_cast<size_t>(count) * width);
    source_.read(tensor_, begin, count, raw.data());
    std::vector<uint8_t> record(nf4::record_bytes(true));
    float absmax[nf4::kNestedBlock];
    for (int64_t at = 0; at < count; at += nf4::kGroup)
      sums[static_cast<size_t>((begin + at) / nf4::kGroup)] =
          nf4::quantize_codes(tensor_.stored, raw.data() + static_cast<size_t>(at) * width,
                              std::min(nf4::kGroup, count - at), record.data(), absmax);
  });
  return nf4::nested_offset(sums, numel);
}

}  // namespace ft
