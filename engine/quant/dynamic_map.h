#pragma once
/// The 8-bit dynamic maps (Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022): 256 sorted fp32
/// values with seven decades of resolution, denser near zero. The signed map holds the scales of NF4 and Adam's first
/// average, the unsigned one its second. Pure functions, safe from any thread.

#include <array>
#include <cstdint>

namespace ft {

/// The values of a map, as bitsandbytes' create_dynamic_map makes them: −0.993 … 0 … 1 and 0 … 1.
const std::array<float, 256>& signed_dynamic_map();
const std::array<float, 256>& unsigned_dynamic_map();

/// thresholds[c] is the smallest float that torchao's quantize_8bit_with_qmap gives the code c + 1: the code of x is
/// the number of thresholds ≤ x (midpoints, ties upward). The last entry is infinite.
const std::array<float, 256>& signed_dynamic_thresholds();
const std::array<float, 256>& unsigned_dynamic_thresholds();

/// torchao's code of x in [−1, 1]: what the fast kernels are held against.
uint8_t dynamic_code(const std::array<float, 256>& thresholds, float x);

/// One block as bitsandbytes' CPU backend quantises it with the signed map: absmax, then codes through a table of
/// 65,536 bins over [−1, 1].   @param count elements, normally 256.   @return absmax. A block of zeros gets code 0.
float quantize_block_binned(const float* x, int64_t count, uint8_t* codes);

}  // namespace ft
