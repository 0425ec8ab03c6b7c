#pragma once
/// One archive of torch.save (torch/serialization.py, the ZIP format since 1.6): what its pickle holds, and where in
/// the file its tensors' bytes lie. Nothing but the pickle is read. Used by the readers of other engines' checkpoints;
/// const members are safe from any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/formats/file.h"
#include "engine/formats/pickle.h"
#include "engine/formats/zip_file.h"
#include "engine/tensor/dtype.h"

namespace ft {

/// A tensor in a file: little-endian, element [i, j, …] at `offset` + (i·stride[0] + j·stride[1] + …) · width.
struct TorchTensor {
  DType dtype = DType::f32;
  std::vector<int64_t> shape, stride;  ///< stride in elements, never negative
  uint64_t offset = 0;                 ///< byte of the first element, in the file

  int64_t numel() const;
  bool is_contiguous() const;
};

class TorchFile {
 public:
  /// Opens what lies in [begin, begin + size) of a file.
  /// @throws Error(format) for what torch.save did not write, or big-endian; see Pickle.
  TorchFile(const InputFile& file, uint64_t begin, uint64_t size);
  /// The whole file.
  explicit TorchFile(const InputFile& file) : TorchFile(file, 0, file.size()) {}

  const PickleNode& root() const { return pickle_->root(); }
  /// The tensor or parameter that a node stands for; nothing for another kind of node. Every element's byte lies within
  /// the tensor's storage.   @throws Error(format) for sizes, strides, offsets or storages that do not fit.
  std::optional<TorchTensor> tensor(const PickleNode& node) const;

 private:
  struct Storage {
    DType dtype;
    uint64_t offset, numel;
  };
  void open_archive(const InputFile& file, uint64_t begin, uint64_t size);
  void open_old(const InputFile& file, uint64_t begin, uint64_t size);
  TorchTensor rebuild(std::string_view function, const std::vector<const PickleNode*>& arguments) const;
  Storage storage(const PickleNode& node, std::optional<DType> dtype) const;
  [[noreturn]] void fail(const std::string& message) const;

  std::string name_;
  std::unordered_map<std::string, ZipMember> members_;  // by what follows the archive's own folder; storages: data/KEY
  std::optional<Pickle> pickle_;
};

/// A tuple, list or torch.Size of numbers from 0 on.   @return nothing for another node.
std::optional<std::vector<int64_t>> pickled_sizes(const PickleNode& node);

/// "torch.bfloat16", a dtype by itself, or nothing.
std::optional<DType> pickled_dtype(const PickleNode& node);

}  // namespace ft
