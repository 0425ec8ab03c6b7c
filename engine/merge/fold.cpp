#include "engine/merge/fold.h"

#include "engine/device/cpu_features.h"
#include "engine/merge/fold_kernel.h"

namespace ft {

void fold_lora_scalar(const FoldRange& range, float* weight) { fold_rows(range, weight); }

void fold_lora(const FoldRange& range, float* weight) {
  if (range.count == 0) return;
  if (cpu_isa() == Isa::scalar)
    fold_lora_scalar(range, weight);
  else
    fold_lora_avx2(range, weight);
}

}  // namespace ft
