#pragma once
/// GGUF, version 3 (ggml-org/ggml, docs/gguf.md): keys with typed values, a table of tensors, then their bytes, each at
/// a multiple of 32. Writing streams; nothing here reads it. Used by merge, from one thread.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/formats/file.h"

namespace ft {

/// How a tensor's elements are stored; the numbers are ggml's.
enum class GgufType : uint32_t { f32 = 0, f16 = 1, q8_0 = 8, bf16 = 30 };

struct GgufTensor {
  std::string name;
  GgufType type = GgufType::f32;
  std::vector<int64_t> shape;  ///< as torch counts dims: the last one is that of neighbours
  uint64_t bytes() const;
};

/// The file's keys, in order.
class GgufKeys {
 public:
  void put(const std::string& key, const std::string& value);
  void put(const std::string& key, const char* value) { put(key, std::string(value)); }
  void put(const std::string& key, uint32_t value);
  void put(const std::string& key, float value);
  void put(const std::string& key, bool value);
  void put(const std::string& key, const std::vector<std::string>& values);
  void put(const std::string& key, const std::vector<float>& values);
  void put(const std::string& key, const std::vector<int32_t>& values);

  uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void begin(const std::string& key, uint32_t type);

  std::string bytes_;
  uint64_t count_ = 0;
};

class GgufWriter {
 public:
  GgufWriter(const std::filesystem::path& path, const GgufKeys& keys, std::vector<GgufTensor> tensors);

  /// The next bytes, in the table's order; pieces may be cut anywhere within a tensor.
  void append(std::span<const std::byte> bytes);
  /// Ends a tensor: what is between it and the next is filled in. FT_CHECKs that all of its bytes came.
  void end_tensor();
  /// Completes the file and renames it into place.
  void finish();

 private:
  OutputFile file_;
  std::vector<GgufTensor> tensors_;
  size_t tensor_ = 0;
  uint64_t written_ = 0;  // of the tensor
};

/// Elements of a Q8_0 block, and its bytes: an fp16 scale, then a signed byte each.
inline constexpr int64_t kQ8Block = 32, kQ8Bytes = 34;

/// Q8_0 (ggml-quants.c, quantize_row_q8_0_ref): scale = max |x| / 127, codes rounded half away from zero.
/// @param count a multiple of 32.   @param out count / 32 · 34 bytes.   @return false where x holds NaN or infinity.
bool quantize_q8_0(const float* x, int64_t count, std::byte* out);

}  // namespace ft
