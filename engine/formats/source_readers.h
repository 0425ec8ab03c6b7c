#pragma once
/// The readers behind open_tensor_source, one for a kind of directory, and what they share. foreign_checkpoint includes
/// it too.

#include <filesystem>
#include <string>
#include <vector>

#include "engine/formats/tensor_source.h"
#include "engine/formats/torch_file.h"

namespace ft {

/// torch.distributed.checkpoint: `.metadata` and `__R_K.distcp`.
bool is_dcp(const std::filesystem::path& path);
TensorSource open_dcp(const std::filesystem::path& path, SourcePart part = SourcePart::model);

/// safetensors files with DCP_SHARDING_INFO, here or in `sharded/` (torch/distributed/checkpoint/hf_storage.py).
bool is_sharded_safetensors(const std::filesystem::path& path);
TensorSource open_sharded_safetensors(const std::filesystem::path& path);

/// Whole tensors in safetensors, as transformers and PEFT write them: an adapter's, or a model's with or without index.
bool is_safetensors(const std::filesystem::path& path);
TensorSource open_safetensors(const std::filesystem::path& path);

/// DeepSpeed's ZeRO stages 1 to 3: `latest` and its folder, or the folder itself.
bool is_zero(const std::filesystem::path& path);
TensorSource open_zero(const std::filesystem::path& path, SourcePart part = SourcePart::model);

/// pytorch_model.bin, pytorch_model.bin.index.json, accelerate's pytorch_model_fsdp.bin, or a file of torch.save.
bool is_pytorch_bin(const std::filesystem::path& path);
TensorSource open_pytorch_bin(const std::filesystem::path& path);

/// An optimizer's state_dict() in a file: by parameters' names, as accelerate saves it with FULL_STATE_DICT
/// (optimizer.bin), or by their numbers, as torch by itself does (optimizer.pt). What bitsandbytes keeps has AdamW's
/// names then: exp_avg and exp_avg_sq in fp32, or as codes with exp_avg_scale and exp_avg_sq_scale.
/// @throws Error(config) for codes of another map than ours (dynamic_map.h), besides what a file's faults bring
TensorSource open_bin_optimizer(const std::filesystem::path& file);

/// A tensor of an archive as a source's, of one piece.
SourceTensor whole_tensor(std::string name, const TorchTensor& tensor, size_t file);
/// Notes an optimizer's count of steps, which may stand as a number or as a tensor. @throws Error(format) for another
void add_steps(TensorSourceBuilder& builder, size_t file, const TorchFile& archive, const PickleNode& node);

/// Names of a model's tensors from where they stood in what was saved: the only top-level key goes, and among several
/// those but "model" (or "module") do. @return "" for an empty path and for what is not the model's.
std::vector<std::string> model_names(std::vector<std::vector<std::string>> paths);

/// Names "<parameter>.<key>" of what an optimizer keeps, from where it stood: below "state", in front of which
/// "optimizer" or "optim" may stand.   @return "" for an empty path and for what is not the optimizer's.
std::vector<std::string> optimizer_names(const std::vector<std::vector<std::string>>& paths);

/// A parameter's own name, without what wrappers leave in it: "module." in front, "_orig_mod.", "_fsdp_wrapped_module."
/// and "_checkpoint_wrapped_module." anywhere.
std::string unwrapped_name(std::string name);

}  // namespace ft
