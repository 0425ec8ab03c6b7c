#pragma once
/// Tensors that other engines wrote, each as pieces in files: the common face of torch.distributed.checkpoint
/// directories, sharded safetensors, DeepSpeed's ZeRO directories and PyTorch's .bin files. Opening reads tables only
/// and checks every range against its file; reading takes the bytes asked for. Used by merge, by model directories and
/// by runs that go on from such a checkpoint; const members are safe from any thread.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/formats/file.h"
#include "engine/tensor/dtype.h"

namespace ft {

/// A box of a tensor and where its elements lie. `begin` and `count` have the tensor's dims, or one dim of the
/// flattened tensor.
struct TensorPiece {
  std::vector<int64_t> begin, count;
  std::vector<int64_t> stride;  ///< in the file, in elements
  size_t file = 0;
  uint64_t offset = 0;  ///< byte of the box's first element

  int64_t numel() const;
};

struct SourceTensor {
  std::string name = {};
  DType dtype = DType::f32;
  std::vector<int64_t> shape = {};
  std::vector<TensorPiece> pieces = {};

  int64_t numel() const;
};

/// What of a checkpoint is read: the model's tensors, or what its optimizer keeps of each, then named
/// "<parameter>.<key>": "model.norm.weight.exp_avg".
enum class SourcePart { model, optimizer };

class TensorSource {
 public:
  /// What is read, for messages and the report: "a torch.distributed.checkpoint of 8 files".
  const std::string& kind() const { return kind_; }
  const std::filesystem::path& path() const { return path_; }
  const std::vector<SourceTensor>& tensors() const { return tensors_; }  ///< in the order of the files
  /// The tensor, or nullptr.
  const SourceTensor* find(const std::string& name) const;
  /// Steps that the optimizer has taken, of SourcePart::optimizer; nothing where it does not say.
  std::optional<int64_t> steps() const { return steps_; }
  /// Of an optimizer that numbers its parameters and does not name them ("3.exp_avg"): how many each of its groups has,
  /// one group's numbers after the other's. Empty where it names them.
  const std::vector<int64_t>& numbered_groups() const { return groups_; }
  /// Reads elements [begin, begin + count) of the flattened tensor.
  void read(const SourceTensor& tensor, int64_t begin, int64_t count, void* out) const;

 private:
  friend class TensorSourceBuilder;
  std::string kind_;
  std::filesystem::path path_;
  std::vector<std::unique_ptr<InputFile>> files_;
  std::vector<SourceTensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
  std::optional<int64_t> steps_;
  std::vector<int64_t> groups_;
};

/// What the readers of the formats fill. Each check names the tensor.
class TensorSourceBuilder {
 public:
  explicit TensorSourceBuilder(std::filesystem::path path) { source_.path_ = std::move(path); }

  /// Opens a file; `name` must stay in the directory.   @return its number.
  size_t open(const std::string& name);
  const InputFile& file(size_t number) const { return *source_.files_[number]; }
  /// @throws Error(format) for a name that stands twice, a shape that 64 bits cannot count, pieces outside the tensor
  /// or the file, holes, overlaps.
  void add(SourceTensor tensor);
  /// Notes how many steps the optimizer has taken for a parameter.
  /// @throws Error(format) for what is no such number, or not that of the others: averages of different ages.
  void add_steps(const std::string& parameter, double steps);
  void set_numbered_groups(std::vector<int64_t> groups) { source_.groups_ = std::move(groups); }
  /// The number in a file, of an optimizer's count of steps.   @throws Error(format) for a dtype that counts nothing
  double number(size_t file, DType dtype, uint64_t offset) const;
  /// @throws Error(format) for a model without tensors.
  TensorSource finish(std::string kind, SourcePart part = SourcePart::model);

 private:
  TensorSource source_;
};

/// What kind of checkpoint of another engine's a directory (or a .bin file) is.
enum class SourceKind { none, dcp, sharded_safetensors, zero, pytorch_bin };
SourceKind source_kind(const std::filesystem::path& path);

/// The checkpoint that a path is, or the one `pytorch_model_fsdp_<n>` in it, as accelerate and Axolotl leave it;
/// nothing where there is none, or several.
std::optional<std::filesystem::path> find_tensor_source(const std::filesystem::path& path);

/// Opens what source_kind found.   @throws Error(format), Error(io); Error(config) for SourceKind::none.
TensorSource open_tensor_source(const std::filesystem::path& path);

/// What an optimizer has left in such a checkpoint, or in a file of its own (optimizer.bin, optimizer.pt); nothing
/// where there is none.
/// @throws Error(format), Error(io)
std::optional<TensorSource> open_optimizer_source(const std::filesystem::path& path);

}  // namespace ft
