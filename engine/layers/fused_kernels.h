#pragma once
/// Row kernels of the fused CPU ops: RMSNorm, RoPE, SwiGLU, softmax cross-entropy, dropout. One source compiled for
/// each instruction set (fused_kernels_body.h) and chosen at run time; sums are made in 16 fixed lanes, and no
/// multiply-add is contracted, so that every instruction set gives the same bits. Called by the ops of this folder
/// inside at::parallel_for; pure, safe from any thread on rows that do not overlap. Rows are fp32, bf16 or fp16 (T),
/// arithmetic is fp32, each result rounded once.

#include <cstdint>

namespace ft {

/// Bits of a bf16 value, so that kernels need no LibTorch type.
struct Bf16 {
  uint16_t bits;
};

/// Bits of an fp16 value.
struct Fp16 {
  uint16_t bits;
};

/// Which features of a token dropout keeps: a hash of (token key, feature) below p·2^32 is dropped.
struct DropoutRow {
  uint64_t key = 0;        ///< of the token: seed, step, row, position, module
  uint32_t threshold = 0;  ///< p·2^32
  float keep_scale = 1;    ///< 1/(1-p)
};

template <class T>
struct RowKernels {
  /// y = x·rstd·w with rstd = 1/sqrt(mean(x²) + eps).   @return rstd
  float (*rms_norm)(const T* x, const float* w, int64_t n, float eps, T* y);
  /// gx = rstd·(gy·w − xhat·mean(gy·w·xhat)), xhat = x·rstd; gw += gy·xhat. gx or gw may be null.
  void (*rms_norm_backward)(const T* gy, const T* x, const float* w, float rstd, int64_t n, T* gx, float* gw);
  /// Rotates one head by half-split pairs (i, i + half): y1 = x1·cos − x2·sin, y2 = x2·cos + x1·sin; sin times `sign`.
  void (*rope)(const T* x, const float* cos, const float* sin, float sign, int64_t half, T* y);
  /// y = silu(gate)·up
  void (*swiglu)(const T* gate, const T* up, int64_t n, T* y);
  /// Gradients of swiglu's inputs, silu computed again.
  void (*swiglu_backward)(const T* gy, const T* gate, const T* up, int64_t n, T* ggate, T* gup);
  /// @return log Σ exp(logits) − logits[target]. With `scale` ≠ 0 the logits become scale·(softmax − onehot(target)).
  double (*cross_entropy)(T* logits, int64_t n, int64_t target, float scale);
  /// y = keep ? x·keep_scale : 0
  void (*dropout)(const T* x, int64_t n, const DropoutRow& row, T* y);
  /// y += keep ? x·keep_scale : 0
  void (*dropout_add)(const T* x, int64_t n, const DropoutRow& row, T* y);
};

/// The kernels for this CPU (engine/device/cpu_features.h).
template <class T>
const RowKernels<T>& row_kernels();

}  // namespace ft
