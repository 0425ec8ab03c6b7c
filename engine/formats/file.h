#pragma once
/// Files: reading at any offset from any thread, and writing that is whole or absent. Every error is an Error(io) that
/// names the path and the system's reason. Used by all of formats, and by whoever writes into a run directory.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace ft {

/// An open file for reading. Reads do not share a position, so that threads may read at once.
class InputFile {
 public:
  /// @throws Error(io) when it is absent, a directory, or not readable.
  explicit InputFile(std::filesystem::path path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;

  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const { return size_; }  ///< bytes when it was opened
  /// Fills `out` from `offset`.   @throws Error(io) when the file ends before, or the system says no.
  void read(uint64_t offset, std::span<std::byte> out) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

/// Writes a file front to back under a temporary name beside `path`; commit() makes it appear whole. Without it nothing
/// stays. One thread at a time.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();  ///< removes what was not committed
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  uint64_t size() const { return size_; }  ///< bytes written so far
  /// XXH3 (64 bits) of the bytes written so far.
  uint64_t checksum() const;
  /// Waits for the disk (fsync), renames into place, waits for the directory.
  void commit();

 private:
  struct Hash;
  std::filesystem::path path_, temporary_;
  std::unique_ptr<Hash> hash_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

/// XXH3 (64 bits).
uint64_t checksum(std::span<const std::byte> bytes);
/// The same of a whole file, read in blocks.
uint64_t file_checksum(const std::filesystem::path& path);

/// Reads a text file whole.
std::string read_text(const std::filesystem::path& path);
/// Writes a text file whole or not at all.
void write_text(const std::filesystem::path& path, std::string_view text);
/// Copies a file whole or not at all.
void copy_whole(const std::filesystem::path& from, const std::filesystem::path& to);
/// Waits until a directory's entries are on disk.
void sync_directory(const std::filesystem::path& directory);

}  // namespace ft
