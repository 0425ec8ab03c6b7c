#pragma once
/// What a merge reads: the run directory, its checkpoint, the base, and how each tensor of the result comes about. Used
/// by merge alone; const members are safe from any thread.

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
#include "engine/schema/value.h"

namespace ft {

/// The two matrices of one linear, fp32 in the checkpoint: A [r, in], B [out, r].
struct LoraPair {
  std::string a, b;
  int64_t rank = 0;
};

/// One tensor of the merged model.
struct MergeTensor {
  std::string name = {};
  std::vector<int64_t> shape = {};
  DType stored = DType::f32;     ///< where it is read
  DType target = DType::f32;     ///< as it is written
  bool from_checkpoint = false;  ///< trained whole; else it is the base's
  std::optional<LoraPair> lora = {};
  bool dequantized = false;  ///< passes through NF4 before LoRA is folded in

  int64_t numel() const;
  uint64_t bytes() const { return static_cast<uint64_t>(numel()) * byte_size(target); }
};

class MergeSource {
 public:
  /// Opens everything and checks that it fits together.   @throws as merge()
  explicit MergeSource(const MergeOptions& options);

  const std::filesystem::path& run_directory() const { return run_directory_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const ModelDirectory* base() const { return base_ ? &*base_ : nullptr; }
  const Value& config() const { return config_; }    ///< config.json of the run
  const Value& adapter() const { return adapter_; }  ///< adapter_config.json; null without LoRA
  const std::vector<MergeTensor>& tensors() const { return tensors_; }
  std::string base_model() const { return run_.get("base_model", ""); }  ///< path, as the run had it
  bool double_quant() const { return run_.get("double_quant", true); }
  float scale() const { return scale_; }  ///< of B·A: alpha/r, or alpha/sqrt(r) with use_rslora

  /// Elements [begin, begin + count) of the flattened tensor, as they are stored.
  void read(const MergeTensor& tensor, int64_t begin, int64_t count, void* out) const;

 private:
  void open_run(const MergeOptions& options);
  void open_base(const MergeOptions& options);
  void read_adapter();
  void list_tensors(const MergeOptions& options);
  MergeTensor base_tensor(const TensorEntry& entry) const;
  std::optional<LoraPair> lora_of(const std::string& weight, const std::vector<int64_t>& shape) const;
  void check_all_used() const;
  void choose_dequantized();
  bool is_tied_head(const std::string& name) const;

  std::filesystem::path run_directory_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<ModelDirectory> base_;
  Value run_, config_, adapter_;
  std::vector<MergeTensor> tensors_;
  float scale_ = 0;
};

/// "….up_proj.lora_A.weight" -> true.
bool is_lora_name(const std::string& name);

}  // namespace ft
