#pragma once
/// Threads for one loop: merge's own, since it needs no LibTorch. Called from one thread.

#include <cstdint>
#include <functional>

namespace ft {

/// Calls work(chunk) for every chunk in [0, chunks), on up to `threads` threads, this one among them. Returns when all
/// are done; rethrows the first exception, after which no further chunk begins.
void parallel_chunks(int threads, int64_t chunks, const std::function<void(int64_t)>& work);

}  // namespace ft
