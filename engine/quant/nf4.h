#pragma once
/// NF4 with double quantisation (Dettmers et al., "QLoRA", 2023; the bytes are bitsandbytes' own): blocks of 64
/// elements with one scale each, scales in nested blocks of 256. A tensor is kept as an array of *group records* of one
/// size, each for 64·256 = 16384 elements of the flattened tensor: 8192 bytes of packed codes, then 256 scale codes and
/// one fp32 nested absmax (8452 bytes), or without double quantisation 256 fp32 scales (9216 bytes). A last, partial
/// group is padded. Records move and are stored as bytes only, and are split between ranks whole, so that any layout
/// holds the same bits; only the nested offset needs the whole tensor. Used by loading (train/weights), layers and
/// merge. Pure functions, safe from any thread on ranges that do not overlap; nothing here starts threads.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/tensor/dtype.h"

namespace ft::nf4 {

inline constexpr int64_t kBlock = 64;                     ///< elements that share a scale
inline constexpr int64_t kNestedBlock = 256;              ///< scales that share a nested absmax
inline constexpr int64_t kGroup = kBlock * kNestedBlock;  ///< elements of a record
inline constexpr int64_t kCodeBytes = kGroup / 2;         ///< bytes of packed codes at the front of a record

/// The codebook: the quantiles of a normal distribution, scaled to [−1, 1], with an exact 0 (QLoRA, appendix E).
inline constexpr float kCodebook[16] = {-1.0f,
                                        -0.6961928009986877f,
                                        -0.5250730514526367f,
                                        -0.39491748809814453f,
                                        -0.28444138169288635f,
                                        -0.18477343022823334f,
                                        -0.09105003625154495f,
                                        0.0f,
                                        0.07958029955625534f,
                                        0.16093020141124725f,
                                        0.24611230194568634f,
                                        0.33791524171829224f,
                                        0.44070982933044434f,
                                        0.5626170039176941f,
                                        0.7229568362236023f,
                                        1.0f};

/// Bytes of one group record: 8452 with double quantisation, 9216 without.
constexpr size_t record_bytes(bool double_quant) {
  return kCodeBytes + (double_quant ? kNestedBlock + sizeof(float) : kNestedBlock * sizeof(float));
}
constexpr int64_t num_blocks(int64_t numel) { return (numel + kBlock - 1) / kBlock; }
constexpr int64_t num_groups(int64_t numel) { return (numel + kGroup - 1) / kGroup; }

/// First half of quantising a group: the codes into the record's front, the scales into `absmax`.
/// A code is the number of midpoints of the codebook strictly below x / absmax, as in bitsandbytes' CPU backend; the
/// last short block of a tensor divides where whole blocks multiply by the reciprocal.
/// @param dtype f32, f16 or bf16: of x.   @param count elements of the group, 1 … 16384; fewer only at a tensor's end.
/// @param record the record's first byte; all its code bytes are written, padding as the code of 0.
/// @param absmax fp32 [256]; entries past the group's blocks become 0.
/// @return the fp64 sum of the group's absmax; NaN or infinite when an element is.
double quantize_codes(DType dtype, const std::byte* x, int64_t count, uint8_t* record, float* absmax);

/// The mean absmax of a tensor from all its groups' sums in order: the same bits on every layout.
/// @throws Error(format) when the sums are not finite: the tensor holds NaN or infinity.
float nested_offset(std::span<const double> group_sums, int64_t numel);

/// Second half: the scales into the record's tail. With double quantisation (absmax − offset) goes through the signed
/// 8-bit map as bitsandbytes' CPU backend does it.   @param absmax the group's blocks, at most 256.
void store_scales(std::span<const float> absmax, float offset, bool double_quant, uint8_t* record);

/// Quantises a whole tensor: for merges, tests and single ranks.   @return its records; `offset` is 0 without
/// double_quant.
struct Quantized {
  std::vector<uint8_t> records;
  float offset = 0;
};
Quantized quantize(DType dtype, const std::byte* x, int64_t numel, bool double_quant);

/// Records of a tensor, or of a piece of one that begins at a group.
struct Records {
  const uint8_t* data = nullptr;
  float offset = 0;  ///< nested offset of the whole tensor
  bool double_quant = true;
};

/// Dequantises elements [first, first + count), counted from the first record, any alignment (whole blocks are
/// fastest): codebook value · absmax in fp32, rounded once to dtype. The same bits from AVX2, AVX-512 and scalar code.
/// @param dtype f32, f16 or bf16: of out.
void dequantize(const Records& records, int64_t first, int64_t count, DType dtype, void* out);

/// The scale of one block, counted from the first record.
float block_absmax(const Records& records, int64_t block);

/// A tensor as bitsandbytes stores it (see docs/formats.md): what safetensors files hold.
struct Arrays {
  std::vector<uint8_t> codes;   ///< [ceil(numel/2)] `weight`
  std::vector<uint8_t> absmax;  ///< [blocks] uint8 `absmax` with double quantisation, else [4·blocks] bytes of fp32
  std::vector<float> nested_absmax;  ///< [ceil(blocks/256)], empty without double quantisation
};
Arrays to_arrays(std::span<const uint8_t> records, int64_t numel, bool double_quant);
/// The way back. @throws Error(shape) when the arrays' sizes do not fit numel.
std::vector<uint8_t> to_records(const Arrays& arrays, int64_t numel, bool double_quant);

}  // namespace ft::nf4
