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

/// The code of a magnitude y from arithmetic: inside a decade of the map the thresholds lie evenly, so the code is
/// trunc(slope·y + offset), unless that comes so near to an integer (kNear) that rounding could decide: then the
/// CodeTable does. 512 is added, so that the float's bits are fixed point with kFractionBits, and kNear, so that
/// what is doubtful has a fraction of less than 2·kNear. The first decade holds what is nearer to 0 than to any
/// other value, then come the map's seven, the last holds what is next to 1. Codes are those of the positive side; the
/// negative one mirrors it (and has no −1).
struct DecadeTable {
  float boundary[32];  ///< by the low five bits of the exponent (2^-24 … 1): where the next decade begins, and in its
                       ///< last four bits the number of the decade below; very large where no decade begins
  float slope[16], offset[16];
  int32_t last[16];  ///< greatest fixed-point number of each decade
};
inline constexpr float kNear = 0x1p-12f;  ///< Block8.FindsTheCodeBesideEveryThreshold shows that it is enough
inline constexpr int kFractionBits = 14;
inline constexpr int32_t kDoubtfulBits = 0x3FF8;  ///< all zero where the fraction is below 2·kNear

/// What the kernels know of one dynamic map.
struct MapTables {
  const float* values;  ///< [256]
  CodeTable codes;
  DecadeTable decades;
  bool with_sign;
};

struct Kernels {
  float (*quantize)(const MapTables& map, const float* x, int64_t count, uint8_t* codes);
  void (*dequantize)(const MapTables& map, const uint8_t* codes, float scale, int64_t count, float* out);
};

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

}  // namespace ft::block8
