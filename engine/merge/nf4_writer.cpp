#include "engine/merge/nf4_writer.h"

#include <algorithm>
#include <span>

#include "engine/device/parallel_for.h"
#include "engine/error/error.h"
#include "engine/formats/bnb_weight.h"
#include "engine/formats/json.h"
#include "engine/formats/safetensors.h"
#include "engine/merge/tensor_stream.h"
#include "engine/quant/dynamic_map.h"
#include "engine/quant/nf4.h"

namespace ft {
namespace {

// What one weight is written as.
struct Parts {
  nf4::Arrays arrays;
  std::string state;
};

std::string state_text(const MergeTensor& tensor, bool double_quant, float offset) {
  Value state = Value::map({{"quant_type", "nf4"},
                            {"blocksize", nf4::kBlock},
                            {"dtype", torch_name(tensor.target)},
                            {"shape", Value(Value::List(tensor.shape.begin(), tensor.shape.end()))}});
  if (double_quant) {
    state.set("nested_blocksize", nf4::kNestedBlock);
    state.set("nested_dtype", "float32");
    state.set("nested_offset", static_cast<double>(offset));
  }
  std::string text = write_json(state);
  return text;
}

// Bytes of the JSON, spaces after it: its digits vary, and the header comes before the offset is known.
constexpr size_t kStateBytes = 256;

std::vector<TensorEntry> entries_of(const MergeTensor& tensor, bool double_quant) {
  const int64_t numel = tensor.numel(), blocks = nf4::num_blocks(numel);
  std::vector<TensorEntry> entries;
  const auto add = [&](const char* suffix, DType dtype, std::vector<int64_t> shape) {
    entries.push_back({.name = tensor.name + suffix, .dtype = dtype, .shape = std::move(shape)});
  };
  add("", DType::u8, {numel / 2, 1});
  add(".absmax", double_quant ? DType::u8 : DType::f32, {blocks});
  add(".quant_map", DType::f32, {16});
  if (double_quant) add(".nested_quant_map", DType::f32, {256});
  add((std::string(kBnbState) + "nf4").c_str(), DType::u8, {static_cast<int64_t>(kStateBytes)});
  if (double_quant) add(".nested_absmax", DType::f32, {nf4::num_groups(numel)});
  return entries;
}

void check_weight(const MergeTensor& tensor) {
  if (tensor.lora)
    throw Error(ErrorKind::config, "has LoRA to be folded in, which four bits would lose")
        .key(tensor.name)
        .help("write the base with --format nf4, and the adapter beside it with --adapter-only");
  constexpr int64_t kWhole = 8 * nf4::kBlock;  // elements for eight bytes of scale codes
  if (tensor.numel() % kWhole != 0)
    throw Error(ErrorKind::config, "has " + std::to_string(tensor.numel()) + " elements, want a multiple of " +
                                       std::to_string(kWhole) + " for NF4")
        .key(tensor.name);
}

Parts quantize(const MergeInput& source, const MergeTensor& tensor, int threads) {
  const bool double_quant = source.double_quant();
  const int64_t numel = tensor.numel(), groups = nf4::num_groups(numel);
  const size_t record = nf4::record_bytes(double_quant), width = byte_size(tensor.target);
  std::vector<uint8_t> records(static_cast<size_t>(groups) * record);
  std::vector<float> absmax(static_cast<size_t>(groups * nf4::kNestedBlock));
  std::vector<double> sums(static_cast<size_t>(groups));
  TensorStream stream(source, tensor, threads);
  std::vector<std::byte> block;
  for (int64_t first = 0; stream.next(block);) {  // blocks are whole groups, but the last
    const auto elements = static_cast<int64_t>(block.size() / width);
    parallel_for(static_cast<size_t>(nf4::num_groups(elements)), {threads, /*at_a_time=*/1}, [&](int64_t g) {
      const auto at = static_cast<size_t>(first + g);
      sums[at] = nf4::quantize_codes(tensor.target, block.data() + static_cast<size_t>(g * nf4::kGroup) * width,
                                     std::min(nf4::kGroup, elements - g * nf4::kGroup), records.data() + at * record,
                                     absmax.data() + at * static_cast<size_t>(nf4::kNestedBlock));
    });
    first += nf4::num_groups(elements);
  }
  const float offset = double_quant ? nf4::nested_offset(sums, numel) : 0;
  for (int64_t g = 0; g < groups; ++g)
    nf4::store_scales({absmax.data() + g * nf4::kNestedBlock,
                       static_cast<size_t>(nf4::num_blocks(std::min(nf4::kGroup, numel - g * nf4::kGroup)))},
                      offset, double_quant, records.data() + static_cast<size_t>(g) * record);
  Parts parts{nf4::to_arrays(records, numel, double_quant), state_text(tensor, double_quant, offset)};
  FT_CHECK(parts.state.size() <= kStateBytes, "a longer quant_state than there is place for");
  parts.state.resize(kStateBytes, ' ');
  return parts;
}

void append(SafetensorsWriter& writer, const Parts& parts, bool double_quant) {
  writer.append(std::as_bytes(std::span(parts.arrays.codes)));
  writer.append(std::as_bytes(std::span(parts.arrays.absmax)));
  writer.append(std::as_bytes(std::span(nf4::kCodebook)));
  if (double_quant) writer.append(std::as_bytes(std::span(signed_dynamic_map())));
  writer.append(std::as_bytes(std::span(parts.state)));
  if (double_quant) writer.append(std::as_bytes(std::span(parts.arrays.nested_absmax)));
}

}  // namespace

bool is_nf4_weight(const MergeTensor& tensor) {
  return tensor.shape.size() == 2 && tensor.name.find(".layers.") != std::string::npos &&
         tensor.name.ends_with("_proj.weight");
}

std::vector<std::string> write_nf4_shard(const MergeInput& source, const MergeShard& shard,
                                         const std::filesystem::path& directory, int threads,
                                         const std::function<void(uint64_t, const std::string&)>& wrote) {
  // Quantized ones first: their tensors come to multiples of four bytes, so that what follows stays aligned.
  std::vector<const MergeTensor*> quantized, plain;
  for (const MergeTensor* tensor : shard.tensors) (is_nf4_weight(*tensor) ? quantized : plain).push_back(tensor);
  std::vector<TensorEntry> entries;
  for (const MergeTensor* tensor : quantized) {
    check_weight(*tensor);
    for (TensorEntry& entry : entries_of(*tensor, source.double_quant())) entries.push_back(std::move(entry));
  }
  for (const MergeTensor* tensor : plain)
    entries.push_back({.name = tensor->name, .dtype = tensor->target, .shape = tensor->shape});
  std::vector<std::string> names;
  for (const TensorEntry& entry : entries) names.push_back(entry.name);
  SafetensorsWriter writer(directory / shard.file, std::move(entries));
  for (const MergeTensor* tensor : quantized) {
    append(writer, quantize(source, *tensor, threads), source.double_quant());
    wrote(tensor->bytes(), tensor->name);
  }
  std::vector<std::byte> block;
  for (const MergeTensor* tensor : plain) {
    TensorStream stream(source, *tensor, threads);
    while (stream.next(block)) {
      writer.append(block);
      wrote(block.size(), tensor->name);
    }
  }
  writer.finish();
  return names;
}

Value nf4_config(const MergeInput& source) {
  Value config = merged_config(source.config(), source.tensors());
  Value skipped = Value::list({"lm_head"});
  for (const MergeTensor& tensor : source.tensors())
    if (tensor.shape.size() == 2 && !is_nf4_weight(tensor) && tensor.name.find(".layers.") != std::string::npos &&
        tensor.name.ends_with(".weight"))
      skipped.as_list().push_back(tensor.name.substr(0, tensor.name.rfind('.')));
  const Value* dtype = config.find("dtype");
  if (!dtype) dtype = config.find("torch_dtype");
  config.set("quantization_config", Value::map({{"_load_in_4bit", true},
                                                {"_load_in_8bit", false},
                                                {"bnb_4bit_compute_dtype", dtype ? *dtype : Value("float32")},
                                                {"bnb_4bit_quant_storage", "uint8"},
                                                {"bnb_4bit_quant_type", "nf4"},
                                                {"bnb_4bit_use_double_quant", source.double_quant()},
                                                {"llm_int8_enable_fp32_cpu_offload", false},
                                                {"llm_int8_has_fp16_weight", false},
                                                {"llm_int8_skip_modules", skipped},
                                                {"llm_int8_threshold", 6.0},
                                                {"load_in_4bit", true},
                                                {"load_in_8bit", false},
                                                {"quant_method", "bitsandbytes"}}));
  return config;
}

}  // namespace ft
