#pragma once
/// Dtypes as files and messages spell them. Free of LibTorch, so that formats, quant and merge can use it;
/// scalar_type.h holds the way to and from LibTorch's.

#include <cstddef>
#include <optional>
#include <string_view>

namespace ft {

enum class DType { f32, f16, bf16, f64, u8, i8, i16, i32, i64, boolean };

/// Bytes of one element.
size_t byte_size(DType dtype);
/// "fp32", "fp16", "bf16", "fp64", "uint8", …: what plans and messages say.
const char* to_string(DType dtype);
/// "F32", "BF16", …: safetensors headers.
const char* safetensors_name(DType dtype);
/// "float32", "bfloat16", "int64", …: config.json and pickles of torch.
const char* torch_name(DType dtype);
/// Reads what safetensors headers say, or nothing for a dtype the engine has no use for.
std::optional<DType> dtype_from_safetensors(std::string_view name);
/// Reads a plan's or config.json's spelling: "bf16", "bfloat16", "fp32", "float32", "torch.float16", …
std::optional<DType> dtype_from_name(std::string_view name);

}  // namespace ft
