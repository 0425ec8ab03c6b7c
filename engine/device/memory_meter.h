#pragma once
/// Bytes of host memory that tensors hold in this process: what of its size is the training's own. Counted by whoever
/// gives tensors memory (HostAllocator, OffloadHome); nothing where neither is used. Any thread; not collective.

#include <cstdint>

namespace ft::memory_meter {

/// @param bytes taken, or given back where negative
void count(int64_t bytes);
int64_t held();
/// The most that was held at one time.
int64_t peak();

}  // namespace ft::memory_meter
