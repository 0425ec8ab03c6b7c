#pragma once
/// What the tests of this folder share: the plugin opened or the test skipped, and an op run on both devices.

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace ft::testing {

using Tensors = std::vector<at::Tensor>;
using Op = std::function<at::Tensor(const Tensors&)>;

/// Skips where the plugin cannot be opened or finds no GPU, and says which.
class Gpu : public ::testing::Test {
 protected:
  void SetUp() override;
};

/// Normally distributed, the same on every call with the seed; fp32 on the host.
at::Tensor normal(at::IntArrayRef shape, double scale, unsigned seed);

/// An int64 tensor on the host.
at::Tensor integers(at::IntArrayRef shape, const std::function<int64_t(int64_t)>& value);

/// |got − want| / |want| in the Euclidean norm, in fp64 on the host.
double distance(const at::Tensor& got, const at::Tensor& want);

struct Ran {
  at::Tensor y;
  Tensors grads;
};
/// y and the gradients of <y, probe> for each input, all on `device` in `dtype`; results on the host.
Ran run(const Op& op, const Tensors& inputs, at::ScalarType dtype, at::DeviceType device);

/// Holds the op in `dtype` on the GPU against the op in fp32 on the CPU, on the same values (rounded to dtype).
/// @param tolerance of y, and of each gradient, as `distance`
void expect_as_on_cpu(const Op& op, const Tensors& inputs, at::ScalarType dtype, double tolerance);

/// Relative errors that rounding to a dtype may bring: fp32 2e-6, fp16 2e-3, bf16 1e-2.
double rounding(at::ScalarType dtype);

inline constexpr at::ScalarType kDtypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

}  // namespace ft::testing
