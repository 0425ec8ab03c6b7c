#pragma once
/// Weight-decomposed LoRA (Liu et al., "DoRA", 2024; peft.tuners.lora.dora): a row of the adapted weight W + scale·B·A
/// keeps its direction, and a trained magnitude m takes the place of its length. The length is a constant to gradients
/// (section 4.3 of the paper). Used by the autograd node of linear layers; any device, no collectives.

#include <ATen/core/Tensor.h>

namespace ft {

/// ‖W + scale·B·A‖ of each row, fp32 [out]; 16 MB of the sum stand at a time.
/// @param w [out, in], any float dtype   @param a [r, in]   @param b [out, r]
at::Tensor row_norms(const at::Tensor& w, const at::Tensor& a, const at::Tensor& b, double scale);

/// What DoRA makes of a linear's products, and what its backward needs.
struct Magnified {
  at::Tensor y;        ///< [N, out] in the products' dtype
  at::Tensor adapted;  ///< z = x'·(W + scale·B·A)ᵀ with x' the input after dropout, [N, out]
  at::Tensor factor;   ///< m / norm, fp32 [out]
  at::Tensor norm;     ///< fp32 [out], rounded to the magnitude's dtype: a fresh adapter's factors are 1 in every dtype
};

/// y = x·Wᵀ − x'·Wᵀ + (m / norm)·z; without dropout the first two are one and cancel.
/// @param plain x·Wᵀ − x'·Wᵀ; undefined without dropout   @param adapted z   @param magnitude m [out]
Magnified magnify(const at::Tensor& plain, const at::Tensor& adapted, const at::Tensor& magnitude,
                  const at::Tensor& norm);

/// Σ over tokens of grad · z / norm: the magnitude's gradient, fp32 [out].
at::Tensor magnitude_grad(const at::Tensor& grad, const at::Tensor& adapted, const at::Tensor& norm);

}  // namespace ft
