#pragma once
/// Files as memory: one that is read in place, whose clean pages the system may drop and read again and all processes
/// share, and one that is filled in place and appears whole or not at all. Every error is an Error(io) that names the
/// path and the system's reason. Neither copied nor moved: they are held where they are made, or by pointer.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace ft {

/// A whole file, read-only. What it maps stays as it is when the path is replaced or removed. Any thread.
class FileMap {
 public:
  /// @throws Error(io) when it is absent, not readable or no regular file.
  explicit FileMap(const std::filesystem::path& path);
  ~FileMap();
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }  ///< begins on a page; empty for an empty file
  /// Asks the system to read a part before it is used. Returns at once; a wish.
  void read_ahead(uint64_t offset, uint64_t bytes) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A file on its way, under a temporary name beside `path`; commit() makes it appear. Without it nothing stays.
class NewFileMap {
 public:
  /// @param bytes of zeros, for which the disk is asked now: a full one is an error here, not a signal later.
  NewFileMap(std::filesystem::path path, uint64_t bytes);
  ~NewFileMap();
  NewFileMap(const NewFileMap&) = delete;
  NewFileMap& operator=(const NewFileMap&) = delete;

  std::byte* data() { return data_; }
  /// Adds text behind the bytes, waits for the disk (fsync), renames into place, waits for the directory.
  void commit(std::string_view behind);

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

/// Adds text to a file's end in one write, and waits for the disk.
void append_to_file(const std::filesystem::path& path, std::string_view text);

}  // namespace ft
