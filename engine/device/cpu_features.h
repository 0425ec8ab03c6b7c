#pragma once
/// Which instruction set the kernels use. Asked once a process; FTENGINE_ISA=scalar|avx2|avx512 lowers it (never raises
/// it), for tests and for hunting a fault down.

namespace ft {

enum class Isa { scalar, avx2, avx512 };  ///< avx2: with FMA and F16C; avx512: F, BW, VL and DQ

/// The best that this CPU and its operating system run, or what FTENGINE_ISA lowers it to.
Isa cpu_isa();
/// For tests: uses at most `isa` from now on. Not while kernels run on other threads.
void limit_cpu_isa(Isa isa);
const char* to_string(Isa isa);

/// Of a kernel's three builds, the one that the instruction set in use runs.
template <class Kernels>
const Kernels& for_isa(const Kernels& scalar, const Kernels& avx2, const Kernels& avx512) {
  switch (cpu_isa()) {
    case Isa::avx512:
      return avx512;
    case Isa::avx2:
      return avx2;
    case Isa::scalar:
      break;
  }
  return scalar;
}

}  // namespace ft
