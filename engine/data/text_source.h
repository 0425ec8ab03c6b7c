#pragma once
/// The text of a data file, as it is or out of gzip or Zstandard, read front to back in bounded memory. Which of them
/// it is, its first bytes say, whatever its name. Used by the readers of rows. One thread.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/formats/file.h"

namespace ft {

/// Turns a file's bytes into those that were compressed.
class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Decodes into `out`, from `in`; both move on.   @return false where the bytes are damaged, with the reason in `why`
  struct Bytes {
    const char* data;
    size_t size;
  };
  virtual bool decode(Bytes& in, char*& out, size_t& room, std::string& why) = 0;
  virtual bool between_members() const = 0;  ///< the bytes may end here
};

class TextSource {
 public:
  /// A byte order mark at the start is passed over.   @throws Error(io) when the file cannot be opened or read.
  explicit TextSource(std::filesystem::path path);
  ~TextSource();

  /// The next byte, or -1 at the end.   @throws Error(format) with the path for damaged compression
  int get() { return at_ < end_ || refill() ? static_cast<unsigned char>(buffer_[at_++]) : -1; }
  int peek() { return at_ < end_ || refill() ? static_cast<unsigned char>(buffer_[at_]) : -1; }
  /// The text up to the next line feed, without it and a carriage return before it; false at the end.
  /// @throws Error(format) for a line of more than kMostRowBytes
  bool line(std::string& out);

  const std::filesystem::path& path() const { return file_.path(); }
  uint64_t bytes_read() const { return offset_; }  ///< of the file, as it lies on the disk

 private:
  bool refill();
  size_t read_file(char* out, size_t room);
  size_t decode(char* out, size_t room);

  InputFile file_;
  uint64_t offset_ = 0;
  std::unique_ptr<Decoder> decoder_;
  std::vector<char> buffer_, raw_;
  size_t at_ = 0, end_ = 0, raw_at_ = 0, raw_end_ = 0;
};

/// A row that is longer is refused: a small compressed file may claim any length.
constexpr size_t kMostRowBytes = size_t{256} << 20;

/// Refuses a row that has come to `bytes`.   @throws Error(format) at `place`
void check_row_size(size_t bytes, const std::string& place);

}  // namespace ft
