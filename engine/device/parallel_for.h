#pragma once
/// A loop on several threads of the host, for the folders without LibTorch: texts, rows, blocks of a merge. Called from
/// one thread, which takes part.

#include <cstddef>
#include <functional>

namespace ft {

struct Workers {
  int threads = 1;        ///< at most so many, the caller's among them
  size_t at_a_time = 16;  ///< neighbours that a thread takes together; 1 where each takes long
};

/// Calls body(i) for i in [0, count), in any order, and returns when all is done.
/// @throws what the lowest failing i threw, of those that were tried; no thread takes more after one
void parallel_for(size_t count, const Workers& workers, const std::function<void(size_t)>& body);

}  // namespace ft
