#include "tests/gpu/gpu.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstdlib>
#include <random>

namespace ft::testing {
namespace {

// Why there is no GPU; empty where there is one. What the plugin registers stays for the process.
std::string obstacle() {
  const char* named = std::getenv("FTENGINE_CUDA_PLUGIN");
  const std::string path = named ? named : FT_CUDA_PLUGIN;
  unsetenv("FTENGINE_DEVICE");                      // plans say it here
  setenv("FTENGINE_CUDA_PLUGIN", path.c_str(), 0);  // for what chooses a device itself, and for ranks
  if (!dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) return std::string("the plugin does not open: ") + dlerror();
  if (!at::globalContext().hasCUDA()) return "CUDA finds no device";
  return "";
}

}  // namespace

void Gpu::SetUp() {
  static const std::string reason = obstacle();
  if (!reason.empty()) GTEST_SKIP() << "tests skipped: no GPU (" << reason << ")";
}

at::Tensor normal(at::IntArrayRef shape, double scale, unsigned seed) {
  at::Tensor out = at::empty(shape, at::TensorOptions(at::kFloat));
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> distribution(0, static_cast<float>(scale));
  std::generate_n(out.data_ptr<float>(), out.numel(), [&] { return distribution(engine); });
  return out;
}

at::Tensor integers(at::IntArrayRef shape, const std::function<int64_t(int64_t)>& value) {
  at::Tensor out = at::empty(shape, at::TensorOptions(at::kLong));
  for (int64_t i = 0; i < out.numel(); ++i) out.data_ptr<int64_t>()[i] = value(i);
  return out;
}

double distance(const at::Tensor& got, const at::Tensor& want) {
  const at::Tensor a = got.cpu().to(at::kDouble), b = want.cpu().to(at::kDouble);
  const double norm = b.norm().item<double>();
  return a.sub(b).norm().item<double>() / (norm > 0 ? norm : 1);
}

Ran run(const Op& op, const Tensors& inputs, at::ScalarType dtype, at::DeviceType device) {
  Tensors leaves;
  for (const at::Tensor& t : inputs)
    leaves.push_back(t.detach().to(device, dtype, /*non_blocking=*/false, /*copy=*/true).requires_grad_(true));
  const at::Tensor y = op(leaves);
  const at::Tensor probe = normal(y.sizes(), 1, 99).to(device, y.scalar_type());
  Ran ran{y.detach().cpu(), torch::autograd::grad({y}, leaves, {probe})};
  for (at::Tensor& grad : ran.grads) grad = grad.cpu();
  return ran;
}

void expect_as_on_cpu(const Op& op, const Tensors& inputs, at::ScalarType dtype, double tolerance) {
  Tensors rounded;
  for (const at::Tensor& t : inputs) rounded.push_back(t.to(dtype).to(at::kFloat));
  const Ran want = run(op, rounded, at::kFloat, at::kCPU), got = run(op, rounded, dtype, at::kCUDA);
  EXPECT_EQ(got.y.sizes(), want.y.sizes());
  EXPECT_LT(distance(got.y, want.y), tolerance) << c10::toString(dtype);
  for (size_t i = 0; i < inputs.size(); ++i)
    EXPECT_LT(distance(got.grads[i], want.grads[i]), tolerance) << c10::toString(dtype) << ", gradient of input " << i;
}

double rounding(at::ScalarType dtype) { return dtype == at::kFloat ? 2e-6 : dtype == at::kHalf ? 2e-3 : 1e-2; }

}  // namespace ft::testing
