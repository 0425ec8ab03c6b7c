#include "engine/merge/adapter_writer.h"

#include <algorithm>
#include <string_view>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/formats/peft_adapter.h"
#include "engine/formats/safetensors.h"
#include "engine/merge/lora_terms.h"
#include "engine/tensor/half.h"

namespace ft {
namespace {

/// A tensor of the file that the checkpoint holds under another name.
struct TiedCopy {
  std::string name, stored;
  std::vector<int64_t> shape;
  bool transposed = false;
};

/// With tied embeddings PEFT wants what is trained of them once more, as the head's: the table itself, or LoRA's two
/// matrices with their parts changed over.
std::vector<TiedCopy> tied_copies(const MergeSource& source) {
  std::vector<TiedCopy> copies;
  if (!source.adapter().get("ensure_weight_tying", false) || !source.config().get("tie_word_embeddings", false))
    return copies;
  for (const Checkpoint::Tensor& tensor : source.checkpoint().tensors()) {
    if (tensor.kind != "master" || tensor.shape.size() != 2) continue;
    const std::vector<int64_t> turned{tensor.shape[1], tensor.shape[0]};
    if (tensor.name.ends_with(".lora_embedding_A"))
      copies.push_back({"lm_head.lora_B.weight", tensor.name, turned, true});
    else if (tensor.name.ends_with(".lora_embedding_B"))
      copies.push_back({"lm_head.lora_A.weight", tensor.name, turned, true});
    else if (tensor.name.ends_with("embed_tokens.weight"))
      copies.push_back({"lm_head.weight", tensor.name, tensor.shape, false});
  }
  return copies;
}

/// PEFT's name of a base's own table: where it gets LoRA the table stands inside of that.
std::string name_of_table(const MergeSource& source, const std::string& name) {
  constexpr std::string_view kWeight = ".weight";
  const std::string module = name.substr(0, name.size() - kWeight.size());
  const bool adapted = source.checkpoint().find(module + ".lora_embedding_A", "master") ||
                       source.checkpoint().find(module + ".lora_A.weight", "master");
  return std::string(kPeftPrefix) + module + (adapted ? ".base_layer.weight" : ".weight");
}

/// The base's table that an entry is, or nullptr. PEFT writes tables that were resized with the adapter: the base that
/// it is put on has no values for new rows (get_peft_model_state_dict, save_embedding_layers).
const TensorEntry* table_of(const MergeSource& source, const TensorEntry& entry) {
  for (const TensorEntry* table : source.grown_tables())
    if (name_of_table(source, table->name) == entry.name) return table;
  return nullptr;
}

void write_table(const MergeSource& source, const TensorEntry& table, const TensorEntry& entry,
                 SafetensorsWriter& writer, const std::function<void(uint64_t, const std::string&)>& wrote) {
  constexpr int64_t kBlock = 1 << 20;  // elements
  const auto width = static_cast<int64_t>(byte_size(table.dtype));
  std::vector<std::byte> raw, bytes;
  std::vector<float> values;
  for (int64_t at = 0; at < table.numel(); at += kBlock) {
    const int64_t count = std::min(kBlock, table.numel() - at);
    raw.resize(static_cast<size_t>(count * width));
    source.base()->read(table.name, static_cast<uint64_t>(at * width), raw);
    values.resize(static_cast<size_t>(count));
    to_fp32(table.dtype, raw.data(), count, values.data());
    bytes.resize(static_cast<size_t>(count) * byte_size(entry.dtype));
    from_fp32(values.data(), count, entry.dtype, bytes.data());
    writer.append(bytes);
    wrote(bytes.size(), entry.name);
  }
}

}  // namespace

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
  for (const TiedCopy& copy : tied_copies(source))
    entries.push_back(
        {.name = std::string(kPeftPrefix) + copy.name, .dtype = dtype.value_or(DType::f32), .shape = copy.shape});
  for (const TensorEntry* table : source.grown_tables())
    entries.push_back(
        {.name = name_of_table(source, table->name), .dtype = dtype.value_or(table->dtype), .shape = table->shape});
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
  // Younger keys, where the run asks for something by them.
  for (const char* key : {"lora_bias", "rank_pattern", "alpha_pattern", "ensure_weight_tying", "loftq_config"})
    if (const Value* given = adapter.find(key); given && asks_for_something(*given)) result.set(key, *given);
  return result;
}

void write_adapter(const MergeSource& source, const std::vector<TensorEntry>& entries,
                   const std::filesystem::path& directory,
                   const std::function<void(uint64_t, const std::string&)>& wrote) {
  constexpr int64_t kBlock = 1 << 20;  // elements
  const std::vector<TiedCopy> copies = tied_copies(source);
  SafetensorsWriter writer(directory / "adapter_model.safetensors", entries);
  std::vector<float> values;
  std::vector<std::byte> bytes;
  for (const TensorEntry& entry : entries) {
    if (const TensorEntry* table = table_of(source, entry)) {
      write_table(source, *table, entry, writer, wrote);
      continue;
    }
    std::string stored = entry.name.substr(kPeftPrefix.size());
    const auto copy = std::find_if(copies.begin(), copies.end(), [&](const TiedCopy& c) { return c.name == stored; });
    const bool turned = copy != copies.end() && copy->transposed;
    if (copy != copies.end()) stored = copy->stored;
    const int64_t block = turned ? entry.numel() : kBlock;  // LoRA's matrices alone are turned, and small
    for (int64_t at = 0; at < entry.numel(); at += block) {
      const int64_t count = std::min(block, entry.numel() - at);
      values.resize(static_cast<size_t>(count));
      source.checkpoint().read(stored, "master", at, count, values.data());
      if (turned) values = transposed(values, entry.shape[0]);
      bytes.resize(static_cast<size_t>(count) * byte_size(entry.dtype));
      from_fp32(values.data(), count, entry.dtype, bytes.data());
      writer.append(bytes);
      wrote(bytes.size(), entry.name);
    }
  }
  writer.finish();
}

}  // namespace ft
