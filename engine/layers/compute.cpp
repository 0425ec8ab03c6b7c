#include "engine/layers/compute.h"

#include <cpuid.h>

#include <string>

#include "engine/device/cpu_features.h"
#include "engine/error/error.h"

namespace ft {

DType fast_compute_dtype() {
  // FTENGINE_ISA below avx512 rules out the bf16 units too, which live in the same registers.
  if (cpu_isa() != Isa::avx512) return DType::f32;
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool amx_bf16 = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & (1u << 22));
  const bool avx512_bf16 = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));
  return amx_bf16 || avx512_bf16 ? DType::bf16 : DType::f32;
}

void check_gathered(const at::Tensor& tensor, std::string_view owner) {
  if (!tensor.defined() || tensor.numel() == 0) return;
  FT_CHECK(tensor.storage().data() != nullptr,
           std::string(owner) + ": a parameter was touched while its unit is released");
}

at::Tensor in_dtype(const at::Tensor& tensor, at::ScalarType dtype) { return tensor.to(dtype); }

}  // namespace ft
