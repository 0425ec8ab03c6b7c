#pragma once
/// safetensors files (huggingface/safetensors, README.md "Format"): a table of tensors in JSON, then their bytes.
/// Reading takes only the bytes asked for; writing streams. Used by model directories, checkpoints and merge.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/formats/file.h"
#include "engine/tensor/dtype.h"

namespace ft {

/// One tensor of a file: row-major, little-endian.
struct TensorEntry {
  std::string name = {};
  DType dtype = DType::f32;
  std::vector<int64_t> shape = {};
  uint64_t begin = 0, end = 0;  ///< bytes, counted from the end of the header

  int64_t numel() const;
  uint64_t bytes() const { return end - begin; }
};

/// The header's `__metadata__`, in order. Hugging Face's readers want {"format", "pt"}.
using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

/// An open file. Everything in the header is checked when it is opened: sizes, offsets (no holes, no overlap), shapes
/// against bytes, keys that stand twice. Move-only; reads are safe from any thread.
class SafetensorsFile {
 public:
  /// @throws Error(io) when it cannot be read, Error(format) that names the file, the tensor and both sides.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  uint64_t size() const { return file_.size(); }       ///< bytes of the whole file
  uint64_t data_begin() const { return data_begin_; }  ///< where the first tensor's bytes begin in the file
  const SafetensorsMetadata& metadata() const { return metadata_; }
  /// Tensors in the order of their bytes, without those of a dtype the engine has no use for.
  const std::vector<TensorEntry>& entries() const { return entries_; }
  /// The tensor, or nullptr.   @throws Error(format) for one whose dtype the engine has no use for, naming the dtype.
  const TensorEntry* find(const std::string& name) const;
  /// Tensors of a dtype the engine has no use for -> that dtype.
  const std::unordered_map<std::string, std::string>& unusable() const { return unusable_; }
  /// Whether the file has this tensor, of whatever dtype.
  bool holds(const std::string& name) const { return index_.contains(name) || unusable_.contains(name); }
  /// Fills `out` with the tensor's bytes from `byte_offset`.
  void read(const TensorEntry& entry, uint64_t byte_offset, std::span<std::byte> out) const;

 private:
  InputFile file_;
  uint64_t data_begin_ = 0;
  std::vector<TensorEntry> entries_;
  SafetensorsMetadata metadata_;
  std::unordered_map<std::string, size_t> index_;
  std::unordered_map<std::string, std::string> unusable_;
};

/// Writes a file whose table of tensors is known up front; the bytes then stream in the table's order. Whole or absent.
class SafetensorsWriter {
 public:
  /// @param entries name, dtype and shape; begin and end are set here.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorEntry> entries,
                    const SafetensorsMetadata& metadata = {{"format", "pt"}});

  const std::vector<TensorEntry>& entries() const { return entries_; }
  /// The next bytes; pieces may be cut anywhere.
  void append(std::span<const std::byte> bytes);
  /// Completes the file and renames it into place. FT_CHECKs that every byte of the table came.
  void finish();
  uint64_t file_bytes() const { return file_.size(); }
  uint64_t checksum() const { return file_.checksum(); }  ///< XXH3 of the whole file, valid before and after finish

 private:
  OutputFile file_;
  std::vector<TensorEntry> entries_;
  uint64_t data_bytes_ = 0, written_ = 0;
};

/// Orders a table as the reference writer does: descending alignment, then name.
void sort_entries(std::vector<TensorEntry>& entries);

/// "[4096, 1024]": for messages.
std::string shape_text(std::span<const int64_t> shape);

}  // namespace ft
