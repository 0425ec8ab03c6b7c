#include "engine/merge/tensor_stream.h"

#include <algorithm>
#include <cmath>

#include "engine/device/parallel_for.h"
#include "engine/merge/fold.h"
#include "engine/merge/lora_terms.h"
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
  read_adapter();
  if (tensor.dequantized && source.double_quant()) offset_ = measure_offset();
  if (tensor.lora && !tensor.lora->magnitude.empty()) measure_rows();
}

void TensorStream::read_adapter() {
  const auto whole = [&](const std::string& name, int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    source_.read_lora(name, 0, count, values.data());
    return values;
  };
  if (tensor_.added_bias) bias_ = whole(tensor_.added_bias->name, tensor_.numel());
  if (!tensor_.lora) return;
  const LoraPair& pair = *tensor_.lora;
  if (!pair.of_embedding) {
    lora_a_ = whole(pair.a, pair.rank * tensor_.shape[1]);
    return;
  }
  // (B·A)ᵀ = Aᵀ·Bᵀ: the product that fold_lora makes, of the two the other way round.
  lora_a_ = transposed(whole(pair.b, tensor_.shape[1] * pair.rank), pair.rank);
  lora_b_ = transposed(whole(pair.a, pair.rank * tensor_.shape[0]), tensor_.shape[0]);
}

bool TensorStream::next(std::vector<std::byte>& block) {
  const int64_t count = std::min(kBlock, tensor_.numel() - at_);
  if (count <= 0) return false;
  const size_t width = byte_size(tensor_.target);
  block.resize(static_cast<size_t>(count) * width);
  parallel_for(static_cast<size_t>(chunks_of(count)), {threads_, /*at_a_time=*/1}, [&](int64_t i) {
    const int64_t begin = i * kChunk;
    chunk(at_ + begin, std::min(kChunk, count - begin), block.data() + static_cast<size_t>(begin) * width);
  });
  at_ += count;
  return true;
}

void TensorStream::chunk(int64_t begin, int64_t count, std::byte* out) const {
  const bool as_is = tensor_.stored == tensor_.target && !tensor_.lora && !tensor_.added_bias && !tensor_.dequantized;
  if (as_is) return source_.read(tensor_, begin, count, out);
  std::vector<float> weight = adapted(begin, count);
  if (!rows_.empty())
    for (int64_t i = 0; i < count; ++i)
      weight[static_cast<size_t>(i)] *= rows_[static_cast<size_t>((begin + i) / tensor_.shape[1])];
  from_fp32(weight.data(), count, tensor_.target, out);
}

/// The weight with what the adapter adds, before DoRA's factors.
std::vector<float> TensorStream::adapted(int64_t begin, int64_t count) const {
  std::vector<std::byte> raw(static_cast<size_t>(count) * byte_size(tensor_.stored));
  source_.read(tensor_, begin, count, raw.data());
  std::vector<float> weight(static_cast<size_t>(count));
  if (tensor_.dequantized)
    through_nf4(raw.data(), count, weight.data());
  else
    to_fp32(tensor_.stored, raw.data(), count, weight.data());
  if (tensor_.lora) fold(begin, count, weight.data());
  if (tensor_.added_bias)
    for (int64_t i = 0; i < count; ++i)
      weight[static_cast<size_t>(i)] += tensor_.added_bias->scale * bias_[static_cast<size_t>(begin + i)];
  return weight;
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
  std::vector<float> read;
  const float* b = lora_b_.data() + first_row * rank;
  if (!tensor_.lora->of_embedding) {
    read.resize(static_cast<size_t>(rows * rank));
    source_.read_lora(tensor_.lora->b, first_row * rank, rows * rank, read.data());
    b = read.data();
  }
  fold_lora({in, rank, begin, count, lora_a_.data(), b, tensor_.lora->scale}, weight);
}

// DoRA's factors, magnitude / norm, with squares summed in fp64, chunk after chunk: the same on any number of threads.
void TensorStream::measure_rows() {
  const int64_t numel = tensor_.numel(), in = tensor_.shape[1];
  std::vector<std::vector<double>> parts(static_cast<size_t>(chunks_of(numel)));
  parallel_for(static_cast<size_t>(chunks_of(numel)), {threads_, /*at_a_time=*/1}, [&](int64_t i) {
    const int64_t begin = i * kChunk, count = std::min(kChunk, numel - begin);
    const std::vector<float> weight = adapted(begin, count);
    std::vector<double>& sums = parts[static_cast<size_t>(i)];
    sums.resize(static_cast<size_t>((begin + count - 1) / in - begin / in + 1));
    for (int64_t k = 0; k < count; ++k) {
      const double value = weight[static_cast<size_t>(k)];
      sums[static_cast<size_t>((begin + k) / in - begin / in)] += value * value;
    }
  });
  std::vector<double> squares(static_cast<size_t>(tensor_.shape[0]));
  for (size_t i = 0; i < parts.size(); ++i)
    for (size_t row = 0; row < parts[i].size(); ++row)
      squares[static_cast<size_t>(static_cast<int64_t>(i) * kChunk / in) + row] += parts[i][row];
  rows_.resize(squares.size());
  source_.read_lora(tensor_.lora->magnitude, 0, tensor_.shape[0], rows_.data());
  for (size_t row = 0; row < rows_.size(); ++row) rows_[row] /= static_cast<float>(std::sqrt(squares[row]));
}

float TensorStream::measure_offset() const {
  const int64_t numel = tensor_.numel();
  std::vector<double> sums(static_cast<size_t>(nf4::num_groups(numel)));
  parallel_for(static_cast<size_t>(chunks_of(numel)), {threads_, /*at_a_time=*/1}, [&](int64_t i) {
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
