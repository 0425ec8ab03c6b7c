#include "engine/tensor/dtype.h"

#include <array>

namespace ft {
namespace {

struct Row {
  DType dtype;
  size_t bytes;
  const char* name;         // plans and messages
  const char* safetensors;  // safetensors/src/tensor.rs
  const char* torch;        // config.json, pickles
};

constexpr std::array<Row, 10> kRows{{
    {DType::f32, 4, "fp32", "F32", "float32"},
    {DType::f16, 2, "fp16", "F16", "float16"},
    {DType::bf16, 2, "bf16", "BF16", "bfloat16"},
    {DType::f64, 8, "fp64", "F64", "float64"},
    {DType::u8, 1, "uint8", "U8", "uint8"},
    {DType::i8, 1, "int8", "I8", "int8"},
    {DType::i16, 2, "int16", "I16", "int16"},
    {DType::i32, 4, "int32", "I32", "int32"},
    {DType::i64, 8, "int64", "I64", "int64"},
    {DType::boolean, 1, "bool", "BOOL", "bool"},
}};

const Row& row(DType dtype) { return kRows[static_cast<size_t>(dtype)]; }

}  // namespace

size_t byte_size(DType dtype) { return row(dtype).bytes; }
const char* to_string(DType dtype) { return row(dtype).name; }
const char* safetensors_name(DType dtype) { return row(dtype).safetensors; }
const char* torch_name(DType dtype) { return row(dtype).torch; }

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const Row& r : kRows)
    if (name == r.safetensors) return r.dtype;
  return std::nullopt;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  constexpr std::string_view kPrefix = "torch.";
  if (name.substr(0, kPrefix.size()) == kPrefix) name.remove_prefix(kPrefix.size());
  for (const Row& r : kRows)
    if (name == r.name || name == r.torch) return r.dtype;
  return std::nullopt;
}

}  // namespace ft
