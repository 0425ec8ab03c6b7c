#pragma once
/// Cosines and sines of the rotary positions, as transformers computes them: fp32 throughout, inverse frequencies
/// 1/theta^(2i/width). Shared by the attention layers of a model; grows to the largest position seen. One thread.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ft {

class RopeTable {
 public:
  RopeTable(double theta, int64_t width) : theta_(theta), width_(width) {}

  /// Makes the tables reach position `last`, on `device`.
  void reach(int64_t last, at::Device device);
  const at::Tensor& cos() const { return cos_; }  ///< fp32 [positions, width/2]
  const at::Tensor& sin() const { return sin_; }

 private:
  double theta_;
  int64_t width_;
  at::Tensor cos_, sin_;
};

}  // namespace ft
