#pragma once
/// The element-wise updates of the optimizers that the engine computes itself, one set for each instruction set, all
/// with the same bits: every operation is rounded on its own (no fused multiply-add), so that neither the vector width
/// nor where a range begins shows in the result.

#include <cstdint>

namespace ft::update {

/// One AdamW step's constants, in fp32 as torchao's single_param_adam has them.
struct AdamW {
  float decay;  ///< lr · weight_decay, or 0
  float lr;
  float weight_1;           ///< 1 − β1
  float weight_2;           ///< 1 − β2
  float correction_1;       ///< 1 − β1^t
  float root_correction_2;  ///< sqrt(1 − β2^t)
  float eps;
};

struct Kernels {
  /// p −= decay·p; m += (1−β1)(g − m); v += (1−β2)(g² − v); p −= lr·(m/c1) / (sqrt(v)/sqrt(c2) + eps)
  void (*adamw)(const AdamW& step, const float* g, float* p, float* m, float* v, int64_t count);
  /// b = momentum·b + g; p −= lr·b
  void (*sgd_momentum)(float lr, float momentum, const float* g, float* p, float* b, int64_t count);
  /// p −= lr·g
  void (*sgd)(float lr, const float* g, float* p, int64_t count);
};

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

/// The set for this CPU.
const Kernels& kernels();

}  // namespace ft::update
