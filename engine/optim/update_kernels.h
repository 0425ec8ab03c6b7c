#pragma once
/// The element-wise updates of the optimizers that the engine computes itself, one set for each instruction set, all
/// with the same bits: every operation is rounded on its own, and multiply-adds are fused where the loops say so alone,
/// so that neither the vector width nor where a range begins shows in the result.

#include <cstdint>

namespace ft::block8 {
struct MapTables;
}

namespace ft::update {

/// One AdamW step's constants, computed in fp64 and rounded once.
struct AdamW {
  float keep = 1;          ///< 1 − lr · weight_decay
  float rate = 0;          ///< lr / (1 − β1^t)
  float weight_1 = 0;      ///< 1 − β1
  float weight_2 = 0;      ///< 1 − β2
  float inverse_root = 0;  ///< 1 / sqrt(1 − β2^t)
  float eps = 0;
};

/// One step of gradient descent.
struct Sgd {
  float lr = 0;
  float weight_decay = 0;  ///< added to the gradient, times the parameter
  float momentum = 0;
  bool nesterov = false;
};

/// One Lion step's constants.
struct Lion {
  float keep = 1;  ///< 1 − lr · weight_decay
  float lr = 0;
  float weight_1 = 0;  ///< 1 − β1
  float weight_2 = 0;  ///< 1 − β2
};

/// Whole blocks of a tensor with 8-bit state.
struct Blocks8 {
  const float* grad;
  float* master;
  uint8_t *mean_codes, *square_codes;
  float *mean_scales, *square_scales;
};
/// Dequantises, updates and quantises `blocks` blocks of 256 in one pass.
using Adamw8bit = void (*)(const AdamW& step, const Blocks8& tensor, const block8::MapTables& signed_map,
                           const block8::MapTables& unsigned_map, int64_t blocks);

struct Kernels {
  /// m = (1−β1)(g − m) + m; v = (1−β2)(g² − v) + v; p = keep·p − rate·(m / (sqrt(v)·inverse_root + eps)), every product
  /// that is added to something fused with the sum.
  void (*adamw)(const AdamW& step, const float* g, float* p, float* m, float* v, int64_t count);
  /// d = g + weight_decay·p; b = momentum·b + d; p −= lr·(nesterov ? d + momentum·b : b)
  void (*sgd_momentum)(const Sgd& step, const float* g, float* p, float* b, int64_t count);
  /// p −= lr·(g + weight_decay·p)
  void (*sgd)(const Sgd& step, const float* g, float* p, int64_t count);
  /// p = keep·p − lr·sign((1−β1)(g − m) + m); m = (1−β2)(g − m) + m, the multiply-adds fused
  void (*lion)(const Lion& step, const float* g, float* p, float* m, int64_t count);
};

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

extern const Adamw8bit kAdamw8bitVbmi;

/// The set for this CPU.
const Kernels& kernels();
/// The fused 8-bit step, or null where this CPU has none: then block8.h and Kernels::adamw do the same by parts.
Adamw8bit adamw8bit();

}  // namespace ft::update
