#pragma once
/// Another engine's training checkpoint as a state that a run goes on from: weights in any format of tensor_source.h or
/// safetensors, Adam's averages where torch.distributed.checkpoint, DeepSpeed or a file of torch.save keep them, the
/// count of steps. Values come as fp32, bitsandbytes' averages of 8 bits as codes and scales of blocks like ours.
/// Opened by resuming runs, on every rank; reads are by ranges.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/formats/saved_state.h"
#include "engine/formats/tensor_source.h"

namespace ft {

/// Where the parts of one lie. Paths that are empty: there is no such part.
struct ForeignFiles {
  std::filesystem::path weights;         ///< for open_tensor_source, or a folder of safetensors
  std::filesystem::path optimizer;       ///< a folder or file for open_optimizer_source, which may find nothing there
  std::filesystem::path adapter_config;  ///< PEFT's
  std::filesystem::path trainer_state;   ///< transformers'
};

/// Looks at names of files alone: the folder of one of the formats, or what accelerate, Axolotl and transformers'
/// Trainer make of it: a folder with `pytorch_model_fsdp_0/` and `optimizer_0/`, with `pytorch_model_fsdp.bin` and
/// `optimizer.bin`, with DeepSpeed's `latest`, or with safetensors and trainer_state.json. Nothing for another folder.
std::optional<ForeignFiles> find_foreign_checkpoint(const std::filesystem::path& path);

class ForeignCheckpoint final : public SavedState {
 public:
  /// Reads tables, and compares them with the files. The header has `step` and, where there are averages,
  /// `optimizer_steps`. Names are the parameters', without PEFT's wrappers; weights whose averages are there, LoRA's
  /// matrices and modules_to_save are `trained`.
  /// @throws Error(format), Error(io) for files; Error(config) for what find_foreign_checkpoint does not find, and for
  /// an optimizer's state that is not Adam's.
  explicit ForeignCheckpoint(const std::filesystem::path& path);

  void read(const std::string& name, const std::string& kind, int64_t begin, int64_t count, void* out) const override;

  /// Whether there is an optimizer's state that numbers its parameters and does not name them (optimizer.pt): none is
  /// taken unless name_averages says whose it is.
  bool is_numbered() const { return optimizer_ && !optimizer_->numbered_groups().empty(); }
  const std::filesystem::path& numbered_file() const { return optimizer_file_; }
  /// Takes numbered averages.   @param groups parameters' names in the order of the numbers, by the optimizer's groups
  /// @return false where their counts or shapes are others', or the state is not Adam's: nothing is taken then
  bool name_averages(const std::vector<std::vector<std::string>>& groups);

 private:
  struct Stored {
    const TensorSource* source;
    const SourceTensor* tensor;
  };
  void add_weights();
  void add_averages(const std::vector<std::string>* names);
  void add_stored(Tensor tensor, const TensorSource& source, const SourceTensor& stored);
  void find_step(const ForeignFiles& files);

  std::filesystem::path optimizer_file_;
  std::optional<TensorSource> weights_, optimizer_;
  std::vector<Stored> stored_;  // of each tensor
};

}  // namespace ft
