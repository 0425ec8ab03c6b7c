#pragma once
/// Writes a directory that torch.distributed.checkpoint loads (torch/distributed/checkpoint/filesystem.py), on any
/// number of ranks: each tensor is one piece, in an archive as torch.save makes it. Used by merge; one thread.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/formats/file.h"
#include "engine/formats/zip_stream.h"
#include "engine/tensor/dtype.h"

namespace ft {

class DcpWriter {
 public:
  /// @param group the key that the tensors stand under: "model", as accelerate and Trainer want it.
  DcpWriter(std::filesystem::path directory, std::string group);

  /// Begins a new file (`__0_1.distcp`, …); the first one is begun by the first tensor.
  void begin_file();
  /// Begins a tensor; its bytes follow by append, row-major.
  void begin_tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape);
  void append(std::span<const std::byte> bytes);
  void end_tensor();
  /// Completes the last file and writes `.metadata`.   @return the names of all files.
  std::vector<std::string> finish();

 private:
  struct Stored {
    std::string name, file;
    DType dtype;
    std::vector<int64_t> shape;
    uint64_t offset = 0, length = 0;
  };
  void end_file();
  std::string metadata() const;

  std::filesystem::path directory_;
  std::string group_;
  std::vector<std::string> files_;
  std::unique_ptr<OutputFile> file_;
  ZipStream archive_;
  std::vector<Stored> tensors_;
};

}  // namespace ft
