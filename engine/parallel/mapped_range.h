#pragma once
/// A frozen range of a unit in a read-only file map (engine/train/weight_cache.h makes the file). Every rank of a node
/// maps the whole range; the pages are the system's, one copy for all, which it may drop and read again. Used by
/// ShardUnit, from the schedule's thread.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>

#include "engine/formats/file_map.h"

namespace ft {

class MappedRange {
 public:
  struct Place {
    uint64_t offset = 0, bytes = 0;  ///< in the file
    uint64_t checksum = 0;           ///< XXH3 (64 bits) of them
  };
  MappedRange(std::shared_ptr<const FileMap> map, std::filesystem::path path, Place place)
      : map_(std::move(map)), path_(std::move(path)), place_(place) {}

  /// The range as a 1-D tensor [bytes / size of dtype], to be read only. It holds the map.
  at::Tensor view(at::ScalarType dtype) const;
  /// Asks for its pages before they are used. Returns at once.
  void read_ahead() const { map_->read_ahead(place_.offset, place_.bytes); }
  /// At its first use: whether it is what was written; starting a run does not read it.
  /// @throws Error(format), once the file is out of the way, so that the next run makes it anew.
  void check();

 private:
  std::shared_ptr<const FileMap> map_;
  std::filesystem::path path_;
  Place place_;
  bool checked_ = false;
};

}  // namespace ft
