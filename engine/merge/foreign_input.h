#pragma once
/// Another engine's checkpoint, or a plain Hugging Face directory, as what a merge reads. Used by merge alone; const
/// members are safe from any thread.

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/formats/model_directory.h"
#include "engine/formats/tensor_source.h"
#include "engine/merge/merge.h"
#include "engine/merge/merge_input.h"

namespace ft {

/// Where another engine's tensors lie at or below a path that a user gave: the path itself, or the one
/// `pytorch_model_fsdp_*` folder in it, as accelerate leaves it in a checkpoint.   @return nothing when there are none.
std::optional<std::filesystem::path> find_foreign(const std::filesystem::path& input);

class ForeignInput : public MergeInput {
 public:
  /// @param path found by find_foreign. config.json, adapter_config.json and tokenizer files are taken from --model, or
  /// else from the folder itself, from `options.input`, and the two above it.
  /// @throws as merge()
  ForeignInput(const std::filesystem::path& path, const MergeOptions& options);

  /// "a torch.distributed.checkpoint", …
  std::string kind() const { return source_ ? source_->kind() : "a Hugging Face directory"; }
  void read(const MergeTensor& tensor, int64_t begin, int64_t count, void* out) const override;
  void read_lora(const std::string& name, int64_t begin, int64_t count, float* out) const override;
  std::vector<std::filesystem::path> companions() const override;

 private:
  void find_config(const std::filesystem::path& path, const MergeOptions& options);
  void list_tensors();
  void add_tensor(const std::string& stored_name, DType dtype, const std::vector<int64_t>& shape);
  void pair_lora();
  void compare_with_base(const std::filesystem::path& base) const;

  std::filesystem::path path_;
  std::optional<TensorSource> source_;       // another engine's
  std::optional<ModelDirectory> directory_;  // or a Hugging Face directory
  std::filesystem::path model_;              // where config.json was found
  std::vector<std::string> stored_;          // names of tensors() as they are stored, by the same numbers
  std::map<std::string, const SourceTensor*> lora_;
  Value adapter_;
};

}  // namespace ft
