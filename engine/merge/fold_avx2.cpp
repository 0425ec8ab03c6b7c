#include "engine/merge/fold_kernel.h"

namespace ft {

void fold_lora_avx2(const FoldRange& range, float* weight) { fold_rows(range, weight); }

}  // namespace ft
