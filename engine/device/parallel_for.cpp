#include "engine/device/parallel_for.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace ft {

void parallel_for(size_t count, const Workers& workers, const std::function<void(size_t)>& body) {
  const size_t at_a_time = workers.at_a_time;
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  size_t failed = count;
  const auto work = [&] {
    for (size_t begin; (begin = next.fetch_add(at_a_time)) < count;) {
      for (size_t i = begin; i < std::min(begin + at_a_time, count); ++i) {
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
  for (int t = 1; t < workers.threads && static_cast<size_t>(t) * at_a_time < count; ++t) others.emplace_back(work);
  work();
  others.clear();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace ft
