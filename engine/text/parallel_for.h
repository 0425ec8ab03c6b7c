#pragma once
/// A loop over texts on several threads. Used inside engine/text only; returns when all threads have ended.

#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ft {

/// Calls body(i) for i in [0, count), in any order, a few neighbours at a time on each thread.
/// @throws what the lowest failing i threw, of those that were tried
inline void parallel_for(size_t count, int threads, const std::function<void(size_t)>& body) {
  constexpr size_t kAtATime = 16;
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  size_t failed = count;
  const auto work = [&] {
    for (size_t begin; (begin = next.fetch_add(kAtATime)) < count;) {
      for (size_t i = begin; i < std::min(begin + kAtATime, count); ++i) {
        try {
          body(i);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (i < failed) failed = i, failure = std::current_exception();
          next = count;  // the others end what they have begun
          return;
        }
      }
    }
  };
  std::vector<std::jthread> others;
  for (int t = 1; t < threads && static_cast<size_t>(t) * kAtATime < count; ++t) others.emplace_back(work);
  work();
  others.clear();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace ft
