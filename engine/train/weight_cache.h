#pragma once
/// Frozen weights in a file, quantized and laid out as units use them, that every rank maps (parallel.frozen_weights =
/// "mmap"). It is made once, by the first rank that needs it, and found again by what it is made of: the settings and
/// the layout of the units; each source file's size, time, inode and header. Its source is hashed whole when it is
/// made, and read again only where files with the same headers have another time or inode: a copied model is known by
/// its hash. Used by ShardedModel::load on every rank; not collective.
///
/// The file: ranges on page boundaries, then an index (JSON) with the key and each range's checksum, then 32 bytes that
/// say where the index lies. A newer index may follow. Ranges are checked at their first use (MappedRange::check).

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/parallel/shard_unit.h"
#include "engine/schema/value.h"

namespace ft {

class WeightSource;

struct WeightCacheReport {
  enum class Outcome { reused, renewed, made };
  Outcome outcome = Outcome::reused;
  std::filesystem::path path;
  int64_t bytes = 0;     ///< of the file
  std::string reason{};  ///< why what was there did not serve; "" where nothing was there

  /// "made DIRECTORY/NAME.weights, 4.2 GB: its source has changed".
  std::string text() const;
};

/// What parallel.weight_cache names, else ftengine/weights in $XDG_CACHE_HOME or ~/.cache.
/// @throws Error(config) where none of these is set.
std::filesystem::path weight_cache_directory(const Value& parallel);

class WeightCache {
 public:
  using Shards = std::vector<std::unique_ptr<ShardUnit>>;
  /// Reads headers of the source. @param shards whose mapped ranges it holds; they and the source outlive the cache.
  /// @throws Error(config) where a frozen weight comes from elsewhere than the base model.
  WeightCache(const std::filesystem::path& directory, Shards& shards, const WeightSource& source);

  const std::filesystem::path& path() const { return path_; }
  /// Whether there is one that serves as it is; what lock-free reading can tell.
  bool serves() const;
  /// Bytes of the source that making it reads.
  int64_t source_bytes() const;
  /// Points the shards' mapped ranges at the file, which is made first where none serves. Waits for another process
  /// that makes it. @param progress is told the bytes read of the source.
  /// @throws Error(io) for a full disk; Error(interrupt) where the wait is interrupted.
  WeightCacheReport map(const std::function<void(int64_t)>& progress);

 private:
  struct Found;
  std::optional<Found> find(std::string& why) const;
  bool same_contents(const Value& index) const;
  void make(const std::function<void(int64_t)>& progress);
  void remove_leftovers() const;
  void point(const Found& found);

  std::vector<FlatRange*> ranges_;
  const WeightSource* source_;
  std::filesystem::path path_;
  Value settings_, files_;  // the key
};

}  // namespace ft
