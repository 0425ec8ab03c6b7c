#pragma once
/// The conversions of half.h for AVX2 with F16C; called by half.cpp alone, after it asked the CPU.

#include <cstdint>

namespace ft::avx2 {

void bf16_to_fp32(const uint16_t* in, int64_t count, float* out);
void fp16_to_fp32(const uint16_t* in, int64_t count, float* out);
void fp32_to_bf16(const float* in, int64_t count, uint16_t* out);
void fp32_to_fp16(const float* in, int64_t count, uint16_t* out);

}  // namespace ft::avx2
