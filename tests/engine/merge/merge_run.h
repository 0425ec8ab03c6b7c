#pragma once
/// A run directory as training leaves it, made from the golden base and adapter (tests/golden/merge.py). One thread.

#include <filesystem>
#include <string>
#include <vector>

#include "engine/formats/checkpoint.h"
#include "engine/formats/json.h"
#include "engine/formats/model_directory.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft::test {

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(FT_GOLDEN_DIR) / "merge" / name;
}

/// A tensor to be written into a checkpoint, fp32.
struct Trained {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

/// The golden adapter's matrices under their names in a checkpoint.
inline std::vector<Trained> golden_adapter() {
  const SafetensorsFile file(golden("adapter/adapter_model.safetensors"));
  std::vector<Trained> result;
  for (const TensorEntry& entry : file.entries()) {
    Trained trained{entry.name.substr(std::string("base_model.model.").size()), entry.shape, {}};
    trained.values.resize(static_cast<size_t>(entry.numel()));
    file.read(entry, 0, std::as_writable_bytes(std::span(trained.values)));
    result.push_back(std::move(trained));
  }
  return result;
}

/// Writes `checkpoint-<step>`, each tensor cut in `world` uneven pieces, none at a row's end.
inline void write_checkpoint(const std::filesystem::path& run, int64_t step, const std::vector<Trained>& tensors,
                             int world) {
  const std::filesystem::path directory = run / ("checkpoint-" + std::to_string(step));
  prepare_checkpoint(directory);
  std::vector<ShardRecord> records;
  const auto cut = [&](const Trained& tensor, int rank) {
    const auto numel = static_cast<int64_t>(tensor.values.size());
    return rank == world ? numel : std::min(numel, rank * (numel / world + 3));
  };
  for (int rank = 0; rank < world; ++rank) {
    std::vector<Piece> pieces;
    for (const Trained& tensor : tensors)
      pieces.push_back({tensor.name, "master", DType::f32, tensor.shape, cut(tensor, rank),
                        cut(tensor, rank + 1) - cut(tensor, rank)});
    CheckpointShardWriter writer(directory, rank, world, pieces);
    for (const Trained& tensor : tensors)
      writer.append(std::as_bytes(std::span(tensor.values)
                                      .subspan(static_cast<size_t>(cut(tensor, rank)),
                                               static_cast<size_t>(cut(tensor, rank + 1) - cut(tensor, rank)))));
    records.push_back(writer.finish());
  }
  write_manifest(directory, Value::map({{"step", step}}), records);
}

/// What stands in a run directory beside its checkpoints.
inline void write_run(const std::filesystem::path& run, const std::filesystem::path& base,
                      const Value& more = Value::map()) {
  std::filesystem::create_directories(run);
  Value record = Value::map({{"base_model", base.empty() ? Value() : Value(base.string())}});
  for (const auto& [key, value] : more.as_map()) record.set(key, value);
  write_text(run / "run.json", write_json(record));
  write_text(run / "adapter_config.json", slurp(golden("adapter/adapter_config.json")));
  if (!base.empty()) write_text(run / "config.json", slurp(base / "config.json"));
  write_text(run / "tokenizer.json", "{\"a tokenizer\": 1}");
  write_text(run / "generation_config.json", "{}");
}

/// A tensor of a written model as fp32.
std::vector<float> read_fp32(const ModelDirectory& model, const std::string& name);

}  // namespace ft::test
