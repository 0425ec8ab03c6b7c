#pragma once
/// Blocks of 8-bit codes with one fp32 scale: the state of the 8-bit optimizers. Codes and scales are those of
/// torchao's OptimState8bit (torchao/optim/quant_utils.py): scale = max(absmax, 1e-12), the nearest value of the
/// dynamic map to x / scale, ties upward. Pure functions, safe from any thread on ranges that do not overlap; the same
/// bits from scalar, AVX2 and AVX-512 code.

#include <cstdint>

namespace ft {

inline constexpr int64_t kBlock8 = 256;  ///< elements that share a scale

/// Which dynamic map (dynamic_map.h) the codes are of: Adam's first average has signs, the second has none.
enum class Map8 { with_sign, without_sign };

namespace block8 {
struct MapTables;
}
/// What the kernels look up: for kernels elsewhere that quantise as they go (engine/optim).
const block8::MapTables& block8_tables(Map8 map);

/// Quantises `count` elements as one block.   @return the scale; NaN when an element is NaN.
float quantize_block8(Map8 map, const float* x, int64_t count, uint8_t* codes);

/// map value · scale, in fp32.
void dequantize_block8(Map8 map, const uint8_t* codes, float scale, int64_t count, float* out);

}  // namespace ft
