#include "engine/device/cpu_features.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string_view>

namespace ft {
namespace {

bool has_f16c() {
#if defined(__clang__) && __clang_major__ < 15
  return true;  // no name for it there; processors that have AVX2 and FMA have it
#else
  return __builtin_cpu_supports("f16c");
#endif
}

Isa detect() {
  Isa isa = Isa::scalar;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
    isa = Isa::avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
      isa = Isa::avx512;
  }
  const char* wanted = std::getenv("FTENGINE_ISA");
  const std::string_view name = wanted ? wanted : "";
  if (name == "scalar") return Isa::scalar;
  if (name == "avx2") return std::min(isa, Isa::avx2);
  return isa;
}

Isa detected() {
  static const Isa isa = detect();
  return isa;
}

std::atomic<Isa> limit{Isa::avx512};

}  // namespace

Isa cpu_isa() { return std::min(detected(), limit.load(std::memory_order_relaxed)); }

void limit_cpu_isa(Isa isa) { limit.store(isa, std::memory_order_relaxed); }

const char* to_string(Isa isa) {
  switch (isa) {
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    default:
      return "scalar";
  }
}

}  // namespace ft
