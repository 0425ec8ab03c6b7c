// What stands behind the engine's ops for CUDA tensors (cuda_ops.h). Part of the CUDA plugin; opening it registers
// them.

#include <torch/library.h>

#include "engine/layers/cuda_ops.h"

namespace ft::cuda {

TORCH_LIBRARY_IMPL(ft, CUDA, m) {
  m.impl("rms_norm_forward", rms_norm_forward);
  m.impl("rms_norm_backward", rms_norm_backward);
  m.impl("rope_forward", rope_forward);
  m.impl("swiglu_forward", swiglu_forward);
  m.impl("swiglu_backward", swiglu_backward);
  m.impl("dropout_forward", dropout_forward);
  m.impl("dropout_add", dropout_add);
  m.impl("attention_forward", attention_forward);
  m.impl("attention_backward", attention_backward);
  m.impl("attention_part", attention_part);
  m.impl("attention_part_backward", attention_part_backward);
  m.impl("nf4_dequantize", nf4_dequantize);
  m.impl("nf4_quantize", nf4_quantize);
  m.impl("linear_cross_entropy_forward", linear_cross_entropy_forward);
}

}  // namespace ft::cuda
