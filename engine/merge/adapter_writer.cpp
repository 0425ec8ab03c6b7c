#include "engine/merge/adapter_writer.h"

#include <algorithm>
#include <string_view>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/formats/peft_adapter.h"
#include "engine/formats/safetensors.h"
#include "engine/tensor/half.h"

namespace ft {
std::vector<TensorEntry> adapter_tensors(const MergeSource& source, std::optional<DType> dtype) {
  if (source.adapter().is_null())
    throw Error(ErrorKind::config, "its run trained whole weights, so there is no adapter")
        .at(source.checkpoint().path().string())
        .help("leave --adapter-only away");
  std::vector<TensorEntry> entries;
  for (const Checkpoint::Tensor& tensor : source.checkpoint().tensors()) {
    if (tensor.kind != "master") continue;
    entries.push_back(
        {.name = std::string(kPeftPrefix) + tensor.name, .dtype = dtype.value_or(DType::f32), .shape = tensor.shape});
  }
  sort_entries(entries);
  return entries;
}

Value minimal_adapter_config(const Value& adapter, const std::string& base_model) {
  const Value name = base_model.empty() ? Value() : Value(base_model);
  const Value defaults = Value::map({{"peft_type", "LORA"},
                                     {"task_type", "CAUSAL_LM"},
                                     {"base_model_name_or_path", name},
                                     {"r", 8},
                                     {"lora_alpha", 8},
                                     {"lora_dropout", 0.0},
                                     {"target_modules", Value()},
                                     {"bias", "none"},
                                     {"fan_in_fan_out", false},
                                     {"use_rslora", false},
                                     {"use_dora", false},
                                     {"modules_to_save", Value()},
                                     {"inference_mode", true}});
  Value result = Value::map();
  for (const auto& [key, value] : defaults.as_map()) {
    const Value* given = adapter.find(key);
    result.set(key, given && !given->is_null() && key != "inference_mode" ? *given : value);
  }
  return result;
}

void write_adapter(const MergeSource& source, const std::vector<TensorEntry>& entries,
                   const std::filesystem::path& directory,
                   const std::function<void(uint64_t, const std::string&)>& wrote) {
  constexpr int64_t kBlock = 1 << 20;  // elements
  SafetensorsWriter writer(directory / "adapter_model.safetensors", entries);
  std::vector<float> values;
  std::vector<std::byte> bytes;
  for (const TensorEntry& entry : entries) {
    const std::string stored = entry.name.substr(kPeftPrefix.size());
    for (int64_t at = 0; at < entry.numel(); at += kBlock) {
      const int64_t count = std::min(kBlock, entry.numel() - at);
      values.resize(static_cast<size_t>(count));
      source.checkpoint().read(stored, "master", at, count, values.data());
      bytes.resize(static_cast<size_t>(count) * byte_size(entry.dtype));
      from_fp32(values.data(), count, entry.dtype, bytes.data());
      writer.append(bytes);
      wrote(bytes.size(), entry.name);
    }
  }
  writer.finish();
}

}  // namespace ft
