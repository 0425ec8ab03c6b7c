#pragma once
/// A run of ftengine's own as what a merge reads: the run directory, its checkpoint, the base, and how each tensor of
/// the result comes about. Used by merge alone; const members are safe from any thread.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/formats/checkpoint.h"
#include "engine/formats/model_directory.h"
#include "engine/merge/merge.h"
#include "engine/merge/merge_input.h"
#include "engine/schema/value.h"

namespace ft {

class MergeSource : public MergeInput {
 public:
  /// Opens everything and checks that it fits together.   @throws as merge()
  explicit MergeSource(const MergeOptions& options);

  const std::filesystem::path& run_directory() const { return run_directory_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const ModelDirectory* base() const { return base_ ? &*base_ : nullptr; }
  const Value& adapter() const { return adapter_; }                      ///< adapter_config.json; null without LoRA
  std::string base_model() const { return run_.get("base_model", ""); }  ///< path, as the run had it

  /// Whether LoRA is folded into what the base's NF4 comes to.
  bool dequantizes() const { return dequantizes_; }

  bool double_quant() const override { return run_.get("double_quant", true); }
  /// Tables with rows for new tokens that the run did not train whole: who loads its adapter lacks them.
  std::vector<const TensorEntry*> grown_tables() const;
  void read(const MergeTensor& tensor, int64_t begin, int64_t count, void* out) const override;
  void read_lora(const std::string& name, int64_t begin, int64_t count, float* out) const override;
  std::vector<std::filesystem::path> companions() const override;

 private:
  void open_run(const MergeOptions& options);
  void open_base(const MergeOptions& options);
  void read_adapter();
  void list_tensors(const MergeOptions& options);
  MergeTensor base_tensor(const TensorEntry& entry) const;
  void fold_adapter();
  MergeBase base_of(const MergeOptions& options) const;
  void choose_dequantized();

  std::filesystem::path run_directory_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<ModelDirectory> base_;
  Value run_, adapter_;
  bool dequantizes_ = false;
};

}  // namespace ft
