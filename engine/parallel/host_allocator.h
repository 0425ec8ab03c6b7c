#pragma once
/// Where tensors on the CPU have their memory. A training step takes and frees the same blocks in the same order, among
/// them some of a size with the model's largest matrix; glibc takes the block that fits best, and after some steps
/// holds a third more than is in use at any time. This allocator takes the lowest place that fits, so that a step
/// repeats itself, keeps what it has, and asks for huge pages, which spares most page faults. Installed by main for
/// programs that train; tests and merges do with LibTorch's own. Any thread; not collective.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>

namespace ft {

/// Places in one range of addresses, lowest first. Knows no memory: pure bookkeeping. One thread at a time.
class LowestFit {
 public:
  /// The lowest free place of `bytes`; grows the range in use where nothing below its end fits.
  uint64_t take(uint64_t bytes);
  /// Frees a place, joining it with its free neighbours.   @return its bytes
  uint64_t give_back(uint64_t place);
  uint64_t end() const { return end_; }  ///< no place in use reaches beyond
 private:
  std::map<uint64_t, uint64_t> free_;  // place: bytes; no two touch, none reaches the end
  std::unordered_map<uint64_t, uint64_t> used_;
  uint64_t end_ = 0;
};

/// Makes LibTorch take CPU tensors of 256 KiB and more from here. Once a process.
/// @return false where the system grants no range of addresses (ulimit -v); nothing has changed then.
bool install_host_allocator();

}  // namespace ft
