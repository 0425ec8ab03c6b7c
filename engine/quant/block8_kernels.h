#pragma once
/// The kernels of block8.h, one set for each instruction set. block8.cpp alone calls them.

#include <cstdint>

namespace ft::block8 {

inline constexpr int32_t kLowest = 0x34000000;  ///< bits of 2^-23: all below is nearer to 0 than to any other map value
inline constexpr int32_t kOne = 0x3F800000;     ///< bits of 1.0f

/// The code of a float in [−1, 1] from one look-up: its magnitude's bits above `shift` choose a cell, narrow enough to
/// hold at most one threshold between two codes; the bits below tell the side. An entry is (last bits on the near side)
/// << 8 | the code at the cell's small end.
struct CodeTable {
  const int32_t* entries;
  int32_t shift;
  int32_t negative;  ///< where the cells of negative values begin
};

struct Kernels {
  float (*quantize)(const CodeTable& table, const float* x, int64_t count, uint8_t* codes);
  void (*dequantize)(const float* map, const uint8_t* codes, float scale, int64_t count, float* out);
};

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

}  // namespace ft::block8
