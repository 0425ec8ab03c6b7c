#pragma once
/// Makes a Hugging Face directory, a DCP or GGUF one, or a PEFT adapter of a checkpoint of ours or another engine's:
/// consolidates shards and folds LoRA into the base, in bounded memory whatever the model's size. Called by `ftengine
/// merge` and by save.final = "huggingface". Needs neither a GPU nor other ranks; starts threads of its own while it
/// runs.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/tensor/dtype.h"

namespace ft {

/// Which base weights LoRA is folded into.
enum class MergeBase {
  original,     ///< the base as it is on disk
  dequantized,  ///< quantized linears pass through NF4 first: the weights that training saw
};

/// What is written.
enum class MergeFormat {
  huggingface,  ///< safetensors, config.json, tokenizer
  dcp,          ///< torch.distributed.checkpoint in pytorch_model_fsdp_0/, beside config.json and tokenizer
  gguf,         ///< one model.gguf: matrices in f16, or in the dtype asked for; the rest in f32
  gguf_q8_0,    ///< the same, matrices in Q8_0
  nf4,          ///< as huggingface, linears in NF4 as bitsandbytes stores them; not with LoRA to be folded in
};

struct MergeOptions {
  std::filesystem::path input = {};   ///< a checkpoint, a run directory (its newest one is taken), or another engine's
  std::filesystem::path output = {};  ///< empty: merged-<step> (or adapter-<step>) in the run directory
  std::filesystem::path model = {};   ///< the base where it has moved; of another engine's: whose config is taken
  std::optional<DType> dtype = {};    ///< f32, f16 or bf16; default: each tensor's dtype in the base
  uint64_t shard_size = 5'000'000'000;  ///< most bytes of tensors in a file; a larger tensor gets a file alone
  MergeFormat format = MergeFormat::huggingface;
  bool adapter_only = false;  ///< a PEFT adapter instead of a merged model
  /// Default: the original ones, or the dequantized ones where LoRA began by LoftQ, which goes with no others.
  std::optional<MergeBase> base = {};
  int threads = 0;  ///< 0: as many as there are processors, at most 16
};

struct MergeProgress {
  uint64_t bytes_done = 0, bytes_total = 0;  ///< of what is written
  std::string tensor;                        ///< the one being written
};
/// Called on the caller's thread after each block. What it throws ends the merge, and nothing stays.
using MergeCallback = std::function<void(const MergeProgress&)>;

struct MergeReport {
  std::filesystem::path output;
  std::string source;              ///< "step 200", or what kind of another engine's checkpoint it was
  std::vector<std::string> files;  ///< names in `output`
  int64_t step = 0;                ///< of the checkpoint; 0 for another engine's
  int64_t parameters = 0;
  uint64_t bytes = 0;  ///< of tensors
  int64_t folded = 0;  ///< linears that LoRA was folded into
  std::string note;    ///< what was chosen for the user, and why; mostly empty
  double seconds = 0;
  uint64_t peak_bytes = 0;  ///< VmHWM of this process
};

/// Writes into a temporary directory beside `output` and renames it into place.
/// @throws Error(config) for an output that exists and is not empty, a directory that is no run, options that do not
/// fit; Error(format) or Error(shape) for files that do not fit together; Error(io).
MergeReport merge(const MergeOptions& options, const MergeCallback& progress = {});

/// Reads "5GB", "500MB", "1.5GiB" or plain bytes.   @throws Error(config)
uint64_t parse_bytes(const std::string& text);

}  // namespace ft
