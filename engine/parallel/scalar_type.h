#pragma once
/// The way between the engine's dtypes (files, plans) and LibTorch's.

#include <c10/core/ScalarType.h>

#include "engine/tensor/dtype.h"

namespace ft {

constexpr at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return at::kFloat;
    case DType::f16:
      return at::kHalf;
    case DType::bf16:
      return at::kBFloat16;
    case DType::f64:
      return at::kDouble;
    case DType::u8:
      return at::kByte;
    case DType::i8:
      return at::kChar;
    case DType::i16:
      return at::kShort;
    case DType::i32:
      return at::kInt;
    case DType::i64:
      return at::kLong;
    case DType::boolean:
      return at::kBool;
  }
  return at::kFloat;
}

/// @pre the dtype is one of the engine's.
constexpr DType dtype_of(at::ScalarType type) {
  for (const DType d : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::u8, DType::i8, DType::i16, DType::i32,
                        DType::i64, DType::boolean})
    if (scalar_type(d) == type) return d;
  return DType::f32;
}

}  // namespace ft
