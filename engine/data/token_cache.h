#pragma once
/// Tokens on the disk: written once, front to back, by `ftengine preprocess` or a run that streams, then mapped into
/// memory by every rank and run that wants the same. A file's name is the hash of all that its tokens depend on. Thread
/// rule: one writer, one thread; mapped tokens may be read from many. No collective: ranks meet at a lock file.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/data/data_files.h"
#include "engine/formats/file.h"
#include "engine/formats/file_map.h"
#include "engine/schema/value.h"

namespace ft {

class TokenRows;

/// Counts up whenever the same rows and options come to other tokens, or the file is laid out otherwise.
constexpr int64_t kTokenCacheVersion = 1;

/// The tokens of a file, where they are mapped. Pages that memory is short of are dropped and read again.
class MappedTokens {
 public:
  /// @throws Error(io), Error(format) for a file that is cut short, of another version, or whose index is damaged
  explicit MappedTokens(const std::filesystem::path& path);

  std::span<const int32_t> tokens() const { return tokens_; }  ///< of each document its ids, then its labels
  std::span<const int64_t> starts() const { return starts_; }  ///< first token of each document, and the end
  std::span<const int64_t> lines() const { return lines_; }    ///< where each document came from
  const Value& record() const { return record_; }              ///< what the writer was given
  const std::string& file() const { return file_; }

 private:
  std::string file_;
  FileMap map_;
  std::span<const int32_t> tokens_;
  std::span<const int64_t> starts_, lines_;
  Value record_;
};

/// Writes a file of tokens; it appears whole, by commit(), or not at all.
class TokenCacheWriter {
 public:
  explicit TokenCacheWriter(std::filesystem::path path);
  /// Takes the tokens that were added since the last call out of `rows`, which keeps lengths and counts alone.
  void add(TokenRows& rows);
  void commit(TokenRows& rows);

 private:
  OutputFile file_;
};

/// XXH3 (128 bits) of a value's JSON, as hexadecimal: the name of a cache.
std::string cache_key(const Value& description);

/// Each file's name, size, weight and hash of its bytes. What was hashed before and has the same size, time and inode
/// is not read again; `folder` keeps the record of that.
/// @param add false: nothing where a path was never hashed, so that no cache can be of it
/// @throws Error(io)
std::optional<Value> describe_files(const std::vector<DataFile>& files, const std::filesystem::path& folder, bool add);

}  // namespace ft
