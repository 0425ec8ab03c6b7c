#pragma once
/// A weight that bitsandbytes quantized to four bits (NF4 or FP4, its scales quantized or not), as safetensors files
/// hold it: packed codes under the weight's own name, scales and maps beside it, and a JSON text that says how they go
/// together (bitsandbytes, functional.QuantState). Made by ModelDirectory; const members are safe from any thread.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/formats/safetensors.h"
#include "engine/tensor/dtype.h"

namespace ft {

class BnbWeight {
 public:
  /// A tensor of the files by name, or nullptr; and a part of its bytes.
  using Find = std::function<const TensorEntry*(const std::string&)>;
  using Read = std::function<void(const TensorEntry&, uint64_t, std::span<std::byte>)>;

  /// @param name of the weight: "model.layers.0.mlp.up_proj.weight".   @param state name of the tensor with its JSON.
  /// @throws Error(format) for a state, a tensor or a size that does not fit, naming it.
  BnbWeight(const std::string& name, const std::string& state, const Find& find, const Read& read);

  const std::string& name() const { return name_; }
  const std::vector<int64_t>& shape() const { return shape_; }   ///< of the weight: [out, in]
  DType dtype() const { return dtype_; }                         ///< what it was, and is dequantized to
  const std::string& quant_type() const { return quant_type_; }  ///< "nf4" or "fp4"
  bool double_quant() const { return nested_ != nullptr; }
  float nested_offset() const { return nested_offset_; }
  /// Whether its bytes are those of the engine's NF4 records: blocks of 64, scales in blocks of 256, the same
  /// codebooks.
  bool has_records() const;

  /// Dequantizes elements [begin, begin + count) of the flattened weight: code · scale in fp32.
  void read_fp32(int64_t begin, int64_t count, float* out, const Read& read) const;
  /// Fills group records [begin, begin + count) of nf4.h with the file's own bytes. FT_CHECKs has_records().
  void read_records(int64_t begin, int64_t count, uint8_t* records, const Read& read) const;

  /// Names of the tensors that belong to it, beside its own.
  const std::vector<std::string>& parts() const { return parts_; }

 private:
  void read_state(const std::string& text);
  const TensorEntry* part(const char* suffix, const Find& find, DType dtype, int64_t count);
  std::vector<float> scales(int64_t first, int64_t count, const Read& read) const;
  [[noreturn]] void fail(const std::string& message) const;

  std::string name_, quant_type_;
  std::vector<int64_t> shape_;
  DType dtype_ = DType::bf16;
  int64_t numel_ = 1, block_ = 64, nested_block_ = 0;
  float nested_offset_ = 0;
  const TensorEntry *codes_ = nullptr, *absmax_ = nullptr, *nested_ = nullptr;
  std::vector<float> map_, nested_map_;
  std::vector<std::string> parts_;
};

/// What the name of such a state ends in, after the weight's: ".quant_state.bitsandbytes__nf4".
inline constexpr std::string_view kBnbState = ".quant_state.bitsandbytes__";

}  // namespace ft
