#include "engine/device/memory_meter.h"

#include <atomic>

namespace ft::memory_meter {
namespace {

std::atomic<int64_t> now = 0, most = 0;

}  // namespace

void count(int64_t bytes) {
  const int64_t held = now += bytes;
  int64_t before = most;
  while (held > before && !most.compare_exchange_weak(before, held)) {
  }
}

int64_t held() { return now; }
int64_t peak() { return most; }

}  // namespace ft::memory_meter
