#pragma once
/// A Hugging Face model directory: config.json, one safetensors file or several with an index, or else PyTorch's .bin
/// files or another engine's checkpoint (tensor_source.h), and tokenizer files. Nothing but headers is read until a
/// range is asked for. Weights that bitsandbytes quantized to four bits show as what they are dequantized to. Used by
/// loading, plans and merge; const members are safe from any thread.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/formats/bnb_weight.h"
#include "engine/formats/grown_table.h"
#include "engine/formats/safetensors.h"
#include "engine/formats/tensor_source.h"
#include "engine/schema/value.h"

namespace ft {

/// A tensor the model wants.
struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
  bool optional = false;  ///< may be absent: lm_head.weight of a model with tied embeddings
};

/// Compares what there is with what the model wants. One error lists what is missing, unexpected, of another shape and
/// of a dtype that is no weight's. Rotary buffers of old checkpoints (`….rotary_emb.inv_freq`) are nobody's parameters
/// and are passed over.
/// @param find a tensor by name, or nullptr.   @param place where the tensors lie, for the message.
/// @throws Error(shape)
void compare_tensors(std::span<const ExpectedTensor> expected, const std::vector<const TensorEntry*>& tensors,
                     const std::function<const TensorEntry*(const std::string&)>& find,
                     const std::filesystem::path& place);

class ModelDirectory {
 public:
  /// Reads config.json, the index and every safetensors header.
  /// @throws Error(io) for a file that cannot be read, Error(format) for one that is not what it claims to be, an index
  /// that points outside the directory, at a missing file or at a tensor that its file lacks.
  explicit ModelDirectory(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  const Value& config() const { return config_; }  ///< as read

  /// From now on tensors that `growth` names have so many rows. The files stay as they are, and so does fingerprint().
  /// Called once, before anything is read.
  /// @throws Error(shape) for one that is no table or has more rows, Error(config) for one that bitsandbytes quantized.
  void grow(const Growth& growth);
  const Growth* growth() const { return growth_ ? &*growth_ : nullptr; }
  bool is_grown(const std::string& name) const { return grown_.contains(name); }

  /// All tensors, in the order of files and of bytes in them. Those of a dtype the engine has no use for are left out.
  const std::vector<const TensorEntry*>& tensors() const { return tensors_; }
  std::vector<std::string> names() const;
  /// @throws Error(format) when there is a tensor of a dtype the engine has no use for: for whoever needs every one.
  void check_all_usable() const;
  /// The tensor, or nullptr.   @throws Error(format) for a dtype the engine has no use for.
  const TensorEntry* find(const std::string& name) const;
  /// Fills `out` with a tensor's bytes from `byte_offset`, by pread.   @throws Error(format) when there is no such
  /// tensor.
  void read(const std::string& name, uint64_t byte_offset, std::span<std::byte> out) const;

  /// A weight that bitsandbytes quantized, or nullptr: for whoever wants its codes and scales as they are.
  const BnbWeight* quantized(const std::string& name) const;
  bool has_quantized() const { return !quantized_.empty(); }
  /// Fills NF4 group records [begin, begin + count) of a quantized weight whose has_records() is true.
  void read_records(const BnbWeight& weight, int64_t begin, int64_t count, uint8_t* records) const;

  /// compare_tensors with this directory's.
  /// @throws Error(shape)
  void check_tensors(std::span<const ExpectedTensor> expected) const;

  /// Tokenizer files, chat templates and generation_config.json that are there: what a merged model takes along.
  std::vector<std::filesystem::path> companions() const;

  /// XXH3 of all headers, file sizes and 64 KiB from the middle of each file, as 16 hex digits: tells one model from
  /// another without reading it whole. A run keeps it in run.json as "model_fingerprint"; merge compares.
  std::string fingerprint() const;

 private:
  void read_index(const std::filesystem::path& index);
  void add_file(const std::string& name);
  void add_pickled(const std::filesystem::path& source);
  void find_quantized();
  void read_stored(const TensorEntry& entry, uint64_t byte_offset, std::span<std::byte> out) const;
  const TensorEntry* find_stored(const std::string& name) const;

  std::filesystem::path path_;
  Value config_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<const TensorEntry*> tensors_;
  std::unordered_map<std::string, const SafetensorsFile*> owner_;  // tensor -> its file
  std::optional<TensorSource> pickled_;                            // of .bin files, or another engine's
  std::map<std::string, BnbWeight> quantized_;
  std::deque<TensorEntry>
      made_;  // entries of what is pickled or quantized: begin and end say how many bytes it comes to
  std::unordered_map<std::string, const TensorEntry*> made_index_;
  std::optional<Growth> growth_;
  std::map<std::string, std::unique_ptr<const GrownTable>> grown_;
};

/// Whether a model's weights may be stored in this dtype: fp32, fp16 or bf16.
bool is_weight_dtype(DType dtype);

/// The class a config names first, without the prefix that FSDP wrappers leave: "FSDPQwen3ForCausalLM" ->
/// "Qwen3ForCausalLM".
std::string plain_architecture(std::string_view name);

/// Names of the files that ModelDirectory::companions looks for in a directory.
std::vector<std::filesystem::path> companion_files(const std::filesystem::path& directory);

}  // namespace ft
