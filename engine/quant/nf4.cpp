#include "engine/quant/nf4.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "engine/device/cpu_features.h"
#include "engine/error/error.h"
#include "engine/quant/dynamic_map.h"
#include "engine/quant/nf4_kernels.h"
#include "engine/tensor/half.h"

namespace ft::nf4 {
namespace {

constexpr uint8_t kZeroPair = 0x77;  // two codes of the value 0: what padding holds
// As bitsandbytes' CPU backend floors a short block's absmax, also where it stores it (backends/default/ops.py).
constexpr float kShortBlockAbsmax = 1e-38f;

const Kernels& kernels() { return for_isa(kScalarKernels, kAvx2Kernels, kAvx512Kernels); }

// A tensor's last block of fewer than 64 elements.
float quantize_short_block(const float* x, int64_t count, uint8_t* codes) {
  float absmax = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    absmax = std::max(absmax, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  if (!finite) return std::numeric_limits<float>::quiet_NaN();
  absmax = std::max(absmax, kShortBlockAbsmax);
  std::memset(codes, kZeroPair, static_cast<size_t>(kBlock / 2));
  for (int64_t i = 0; i < count; ++i) {
    const float scaled = x[i] / absmax;
    int code = 0;
    for (int t = 0; t < 15; ++t) code += scaled > (kCodebook[t] + kCodebook[t + 1]) / 2.0f ? 1 : 0;
    uint8_t& pair = codes[i / 2];
    pair = static_cast<uint8_t>(i % 2 ? (pair & 0xF0) | code : (pair & 0x0F) | code << 4);
  }
  return absmax;
}

// The scales of blocks [first, first + count) of one record.
void load_scales(const uint8_t* record, const Records& records, int64_t first, int64_t count, float* scales) {
  const uint8_t* tail = record + kCodeBytes;
  if (!records.double_quant) {
    std::memcpy(scales, tail + static_cast<size_t>(first) * sizeof(float), static_cast<size_t>(count) * sizeof(float));
    return;
  }
  float nested = 0;
  std::memcpy(&nested, tail + kNestedBlock, sizeof(nested));
  const std::array<float, 256>& map = signed_dynamic_map();
  for (int64_t i = 0; i < count; ++i) scales[i] = map[tail[first + i]] * nested + records.offset;
}

void expand_blocks(const uint8_t* codes, const float* scales, int64_t blocks, DType dtype, void* out) {
  switch (dtype) {
    case DType::f32:
      return kernels().to_fp32(codes, scales, blocks, static_cast<float*>(out));
    case DType::bf16:
      return kernels().to_bf16(codes, scales, blocks, static_cast<uint16_t*>(out));
    case DType::f16:
      return kernels().to_fp16(codes, scales, blocks, static_cast<uint16_t*>(out));
    default:
      throw Error(ErrorKind::internal, std::string("NF4: got ") + to_string(dtype) + ", want fp32, fp16 or bf16");
  }
}

// Elements [first, first + count) of one record.
void dequantize_record(const uint8_t* record, const Records& records, int64_t first, int64_t count, DType dtype,
                       std::byte* out) {
  const auto width = static_cast<int64_t>(byte_size(dtype));
  const int64_t first_block = first / kBlock, last_block = (first + count + kBlock - 1) / kBlock;
  float scales[kNestedBlock];
  load_scales(record, records, first_block, last_block - first_block, scales);
  int64_t block = first_block, in_block = first % kBlock;
  while (count > 0) {
    const uint8_t* codes = record + block * (kBlock / 2);
    const float* scale = scales + (block - first_block);
    int64_t done = 0, blocks = 1;
    if (in_block == 0 && count >= kBlock) {
      blocks = count / kBlock;
      done = blocks * kBlock;
      expand_blocks(codes, scale, blocks, dtype, out);
    } else {  // part of a block: expanded whole, since the kernels know no less
      alignas(64) std::byte whole[kBlock * sizeof(float)];
      done = std::min(count, kBlock - in_block);
      expand_blocks(codes, scale, 1, dtype, whole);
      std::memcpy(out, whole + in_block * width, static_cast<size_t>(done * width));
    }
    out += done * width;
    count -= done;
    block += blocks;
    in_block = 0;
  }
}

size_t block_scale_bytes(bool double_quant) { return double_quant ? 1 : sizeof(float); }

}  // namespace

double quantize_codes(DType dtype, const std::byte* x, int64_t count, uint8_t* record, float* absmax) {
  FT_CHECK(count > 0 && count <= kGroup, "a group holds 1 to 16384 elements");
  constexpr int64_t kChunk = 16 * kBlock;  // fits the first-level cache as fp32
  float values[kChunk];
  std::memset(record, kZeroPair, static_cast<size_t>(kCodeBytes));
  std::fill_n(absmax, kNestedBlock, 0.0f);
  for (int64_t first = 0; first < count; first += kChunk) {
    const int64_t elements = std::min(kChunk, count - first), whole = elements / kBlock;
    to_fp32(dtype, x + static_cast<size_t>(first) * byte_size(dtype), elements, values);
    uint8_t* codes = record + first / 2;
    float* scales = absmax + first / kBlock;
    kernels().quantize(values, whole, codes, scales);
    if (elements % kBlock) {
      scales[whole] = quantize_short_block(values + whole * kBlock, elements % kBlock, codes + whole * (kBlock / 2));
    }
  }
  double sum = 0;
  for (int64_t b = 0; b < num_blocks(count); ++b) sum += static_cast<double>(absmax[b]);
  return sum;
}

float nested_offset(std::span<const double> group_sums, int64_t numel) {
  double sum = 0;
  for (const double group : group_sums) sum += group;
  if (!std::isfinite(sum))
    throw Error(ErrorKind::format, "the tensor holds NaN or infinity, which NF4 cannot represent");
  return numel > 0 ? static_cast<float>(sum / static_cast<double>(num_blocks(numel))) : 0.0f;
}

void store_scales(std::span<const float> absmax, float offset, bool double_quant, uint8_t* record) {
  FT_CHECK(absmax.size() <= static_cast<size_t>(kNestedBlock), "a group holds at most 256 blocks");
  uint8_t* tail = record + kCodeBytes;
  std::memset(tail, 0, record_bytes(double_quant) - kCodeBytes);
  if (!double_quant) {
    if (!absmax.empty()) std::memcpy(tail, absmax.data(), absmax.size_bytes());
    return;
  }
  float centred[kNestedBlock];
  for (size_t i = 0; i < absmax.size(); ++i) centred[i] = absmax[i] - offset;
  const float nested = quantize_block_binned(centred, static_cast<int64_t>(absmax.size()), tail);
  std::memcpy(tail + kNestedBlock, &nested, sizeof(nested));
}

Quantized quantize(DType dtype, const std::byte* x, int64_t numel, bool double_quant) {
  const int64_t groups = num_groups(numel);
  const size_t record = record_bytes(double_quant), width = byte_size(dtype);
  Quantized out{std::vector<uint8_t>(static_cast<size_t>(groups) * record), 0};
  std::vector<float> absmax(static_cast<size_t>(groups * kNestedBlock));
  std::vector<double> sums(static_cast<size_t>(groups));
  for (int64_t g = 0; g < groups; ++g) {
    sums[static_cast<size_t>(g)] =
        quantize_codes(dtype, x + static_cast<size_t>(g * kGroup) * width, std::min(kGroup, numel - g * kGroup),
                       out.records.data() + static_cast<size_t>(g) * record, absmax.data() + g * kNestedBlock);
  }
  const float offset = nested_offset(sums, numel);
  if (double_quant) out.offset = offset;
  for (int64_t g = 0; g < groups; ++g) {
    const auto blocks = static_cast<size_t>(num_blocks(std::min(kGroup, numel - g * kGroup)));
    store_scales({absmax.data() + g * kNestedBlock, blocks}, offset, double_quant,
                 out.records.data() + static_cast<size_t>(g) * record);
  }
  return out;
}

void dequantize(const Records& records, int64_t first, int64_t count, DType dtype, void* out) {
  const auto record = static_cast<int64_t>(record_bytes(records.double_quant));
  const auto width = static_cast<int64_t>(byte_size(dtype));
  auto* bytes = static_cast<std::byte*>(out);
  while (count > 0) {
    const int64_t in_group = first % kGroup, done = std::min(count, kGroup - in_group);
    dequantize_record(records.data + first / kGroup * record, records, in_group, done, dtype, bytes);
    bytes += done * width;
    first += done;
    count -= done;
  }
}

float block_absmax(const Records& records, int64_t block) {
  const auto record = static_cast<int64_t>(record_bytes(records.double_quant));
  float scale = 0;
  load_scales(records.data + block / kNestedBlock * record, records, block % kNestedBlock, 1, &scale);
  return scale;
}

Arrays to_arrays(std::span<const uint8_t> records, int64_t numel, bool double_quant) {
  const size_t record = record_bytes(double_quant), scale = block_scale_bytes(double_quant);
  FT_CHECK(records.size() == static_cast<size_t>(num_groups(numel)) * record, "records do not fit the tensor");
  Arrays arrays;
  for (int64_t g = 0; g < num_groups(numel); ++g) {
    const uint8_t* from = records.data() + static_cast<size_t>(g) * record;
    const uint8_t* tail = from + kCodeBytes;
    const int64_t elements = std::min(kGroup, numel - g * kGroup);
    arrays.codes.insert(arrays.codes.end(), from, from + (elements + 1) / 2);
    arrays.absmax.insert(arrays.absmax.end(), tail, tail + static_cast<size_t>(num_blocks(elements)) * scale);
    if (!double_quant) continue;
    float nested = 0;
    std::memcpy(&nested, tail + kNestedBlock, sizeof(nested));
    arrays.nested_absmax.push_back(nested);
  }
  return arrays;
}

std::vector<uint8_t> to_records(const Arrays& arrays, int64_t numel, bool double_quant) {
  const size_t record = record_bytes(double_quant), scale = block_scale_bytes(double_quant);
  const auto groups = static_cast<size_t>(num_groups(numel)), blocks = static_cast<size_t>(num_blocks(numel));
  const size_t codes = static_cast<size_t>(numel + 1) / 2, nested = double_quant ? groups : 0;
  if (arrays.codes.size() != codes || arrays.absmax.size() != blocks * scale || arrays.nested_absmax.size() != nested) {
    throw Error(ErrorKind::shape,
                "NF4 arrays of a tensor of " + std::to_string(numel) + " elements: got " +
                    std::to_string(arrays.codes.size()) + " code bytes, " + std::to_string(arrays.absmax.size()) +
                    " scale bytes and " + std::to_string(arrays.nested_absmax.size()) + " nested scales, want " +
                    std::to_string(codes) + ", " + std::to_string(blocks * scale) + " and " + std::to_string(nested));
  }
  std::vector<uint8_t> records(groups * record);
  for (size_t g = 0; g < groups; ++g) {
    uint8_t* to = records.data() + g * record;
    uint8_t* tail = to + kCodeBytes;
    const int64_t elements = std::min(kGroup, numel - static_cast<int64_t>(g) * kGroup);
    std::memset(to, kZeroPair, static_cast<size_t>(kCodeBytes));
    std::memcpy(to, arrays.codes.data() + g * kCodeBytes, static_cast<size_t>((elements + 1) / 2));
    std::memcpy(tail, arrays.absmax.data() + g * kNestedBlock * scale,
                static_cast<size_t>(num_blocks(elements)) * scale);
    if (double_quant) std::memcpy(tail + kNestedBlock, &arrays.nested_absmax[g], sizeof(float));
  }
  return records;
}

}  // namespace ft::nf4
