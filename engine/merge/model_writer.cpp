#include "engine/merge/model_writer.h"

#include <algorithm>
#include <cstdio>
#include <future>
#include <map>
#include <utility>

#include "engine/formats/dcp_writer.h"
#include "engine/formats/json.h"
#include "engine/formats/model_directory.h"
#include "engine/formats/safetensors.h"
#include "engine/merge/tensor_stream.h"

namespace ft {
namespace {

// The dtype of most bytes: what `dtype` in a config means.
DType main_dtype(const std::vector<MergeTensor>& tensors) {
  std::map<DType, uint64_t> bytes;
  for (const MergeTensor& tensor : tensors) bytes[tensor.target] += tensor.bytes();
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? DType::f32 : most->first;
}

}  // namespace

std::vector<MergeShard> deal_shards(const std::vector<MergeTensor>& tensors, uint64_t shard_size) {
  std::vector<MergeShard> shards;
  uint64_t filled = 0;
  for (const MergeTensor& tensor : tensors) {
    if (shards.empty() || (filled > 0 && tensor.bytes() > shard_size - std::min(shard_size, filled))) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().tensors.push_back(&tensor);
    filled += tensor.bytes();
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    shards[i].file = shards.size() == 1 ? "model.safetensors" : name;
    // The reference writer's order: descending alignment, then name.
    std::stable_sort(shards[i].tensors.begin(), shards[i].tensors.end(),
                     [](const MergeTensor* a, const MergeTensor* b) {
                       const size_t width_a = byte_size(a->target), width_b = byte_size(b->target);
                       return width_a != width_b ? width_a > width_b : a->name < b->name;
                     });
  }
  return shards;
}

std::string index_text(const std::vector<MergeShard>& shards) {
  int64_t parameters = 0, bytes = 0;
  std::map<std::string, std::string> files;
  for (const MergeShard& shard : shards)
    for (const MergeTensor* tensor : shard.tensors) {
      parameters += tensor->numel();
      bytes += static_cast<int64_t>(tensor->bytes());
      files[tensor->name] = shard.file;
    }
  return index_text(files, parameters, bytes);
}

std::string index_text(const std::map<std::string, std::string>& files, int64_t parameters, int64_t bytes) {
  Value::Map weight_map;
  for (const auto& [tensor, file] : files) weight_map.emplace_back(tensor, file);
  const Value index = Value::map({{"metadata", Value::map({{"total_parameters", parameters}, {"total_size", bytes}})},
                                  {"weight_map", Value(std::move(weight_map))}});
  return write_json(index, 2) + "\n";
}

Value merged_config(const Value& config, const std::vector<MergeTensor>& tensors) {
  Value result = config;
  if (Value* names = result.find("architectures"); names && names->is_list())
    for (Value& name : names->as_list())
      if (name.is_string()) name = plain_architecture(name.as_string());
  // Lua has one kind of number, and a config that passed through it may say 30 for 30.0: transformers wants these to be
  // floats.
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping", "initializer_range", "layer_norm_eps",
                          "logit_scale", "rms_norm_eps", "router_aux_loss_coef", "router_jitter_noise"})
    if (Value* number = result.find(key); number && number->kind() == Value::Kind::integer)
      *number = Value(static_cast<double>(number->as_integer()));
  const bool old_spelling = result.find("torch_dtype") && !result.find("dtype");
  const char* dtype = torch_name(main_dtype(tensors));
  result.set(old_spelling ? "torch_dtype" : "dtype", dtype);
  if (!old_spelling && result.find("torch_dtype")) result.set("torch_dtype", dtype);
  return result;
}

void write_shard(const MergeInput& source, const MergeShard& shard, const std::filesystem::path& directory, int threads,
                 const std::function<void(uint64_t, const std::string&)>& wrote) {
  std::vector<TensorEntry> entries;
  for (const MergeTensor* tensor : shard.tensors)
    entries.push_back({.name = tensor->name, .dtype = tensor->target, .shape = tensor->shape});
  SafetensorsWriter writer(directory / shard.file, std::move(entries));
  std::vector<std::byte> block, writing;
  std::future<void> pending;  // one block is written while the next is made; declared last: its destructor waits
  const auto wait = [&] {
    if (pending.valid()) pending.get();
  };
  for (const MergeTensor* tensor : shard.tensors) {
    TensorStream stream(source, *tensor, threads);
    while (stream.next(block)) {
      wait();
      std::swap(block, writing);
      pending = std::async(std::launch::async, [&writer, &writing] { writer.append(writing); });
      wrote(writing.size(), tensor->name);
    }
  }
  wait();
  writer.finish();
}

std::vector<std::string> write_dcp(const MergeInput& source, const std::vector<MergeShard>& shards,
                                   const std::filesystem::path& directory, int threads,
                                   const std::function<void(uint64_t, const std::string&)>& wrote) {
  std::filesystem::create_directories(directory);
  DcpWriter writer(directory, "model");
  std::vector<std::byte> block;
  for (const MergeShard& shard : shards) {
    writer.begin_file();
    for (const MergeTensor* tensor : shard.tensors) {
      writer.begin_tensor(tensor->name, tensor->target, tensor->shape);
      TensorStream stream(source, *tensor, threads);
      while (stream.next(block)) {
        writer.append(block);
        wrote(block.size(), tensor->name);
      }
      writer.end_tensor();
    }
  }
  return writer.finish();
}

}  // namespace ft
