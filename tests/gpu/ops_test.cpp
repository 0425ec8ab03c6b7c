// Each differentiable op on the GPU against its CPU reference: values and every gradient, odd sizes, all dtypes.
#include "engine/layers/ops.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include "engine/error/error.h"
#include "tests/gpu/gpu.h"

namespace ft::testing {
namespace {

using GpuOps = Gpu;

// A row a warp and a row a block; widths that fill packs, and some that do not.
TEST_F(GpuOps, RmsNorm) {
  const Op op = [](const Tensors& in) { return ops::rms_norm(in[0], in[1], 1e-5); };
  for (const at::ScalarType dtype : kDtypes)
    for (const int64_t width : {1, 37, 128, 1000, 1024, 1025, 4096, 5003})
      for (const int64_t rows : {3, 131}) {
        SCOPED_TRACE("width " + std::to_string(width) + ", rows " + std::to_string(rows));
        // A row of one value has no gradient but rounding's.
        const at::Tensor x = normal({rows, width}, 2, 1), w = normal({width}, 1, 2).add(1);
        if (width == 1) {
          EXPECT_LT(distance(run(op, {x, w}, dtype, at::kCUDA).y,
                             run(op, {x.to(dtype), w.to(dtype)}, at::kFloat, at::kCPU).y),
                    rounding(dtype));
        } else {
          expect_as_on_cpu(op, {x, w}, dtype, rounding(dtype));
        }
      }
}

// More rows than the weight's gradient has parts of 64 rows.
TEST_F(GpuOps, RmsNormOfManyRows) {
  const Op op = [](const Tensors& in) { return ops::rms_norm(in[0], in[1], 1e-6); };
  expect_as_on_cpu(op, {normal({70000, 16}, 1, 1), normal({16}, 1, 2)}, at::kFloat, 1e-5);
}

TEST_F(GpuOps, RmsNormTakesAWeightInFp32) {
  const at::Tensor w = normal({256}, 1, 2);
  const Op op = [&](const Tensors& in) { return ops::rms_norm(in[0], w.to(in[0].device()), 1e-5); };
  for (const at::ScalarType dtype : kDtypes) expect_as_on_cpu(op, {normal({9, 256}, 1, 1)}, dtype, rounding(dtype));
}

TEST_F(GpuOps, Swiglu) {
  const Op op = [](const Tensors& in) { return ops::swiglu(in[0], in[1]); };
  for (const at::ScalarType dtype : kDtypes)
    for (const int64_t count : {1, 7, 8, 255, 4096, 100003})
      expect_as_on_cpu(op, {normal({count}, 8, 1), normal({count}, 1, 2)}, dtype, rounding(dtype));
}

TEST_F(GpuOps, SwigluOfExtremeGatesIsFinite) {
  at::Tensor gate = at::zeros({4}, at::kFloat);
  gate[0] = -1e4, gate[1] = 1e4, gate[2] = -100, gate[3] = 100;
  const at::Tensor y = ops::swiglu(gate.to(at::kCUDA), at::ones({4}).to(at::kCUDA)).cpu();
  EXPECT_TRUE(y.isfinite().all().item<bool>());
  EXPECT_EQ(y[1].item<float>(), 1e4f);
}

TEST_F(GpuOps, Rope) {
  for (const int64_t half : {1, 6, 32, 64}) {
    const at::Tensor cos = normal({50, half}, 1, 3), sin = normal({50, half}, 1, 4);
    const at::Tensor positions = integers({2, 5}, [](int64_t i) { return i * 7 % 50; });
    const Op op = [&](const Tensors& in) {
      const at::Device on = in[0].device();
      return ops::rope(in[0], cos.to(on), sin.to(on), positions.to(on));
    };
    for (const at::ScalarType dtype : kDtypes)
      expect_as_on_cpu(op, {normal({2, 5, 3, 2 * half}, 1, 1)}, dtype, rounding(dtype));
  }
}

TEST_F(GpuOps, DropoutKeepsTheFeaturesThatTheCpuKeeps) {
  for (const int64_t width : {1, 77, 256, 4096}) {
    const at::Tensor keys = integers({6}, [](int64_t i) { return -i * 77777777777; });
    const Op op = [&](const Tensors& in) { return ops::counter_dropout(in[0], keys.to(in[0].device()), 0.3); };
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const at::Tensor x = normal({6, width}, 1, 1);
      const Ran cpu = run(op, {x}, dtype, at::kCPU), gpu = run(op, {x}, dtype, at::kCUDA);
      EXPECT_TRUE(gpu.y.equal(cpu.y));
      EXPECT_TRUE(gpu.grads[0].equal(cpu.grads[0]));
    }
  }
}

TEST_F(GpuOps, Embedding) {
  const at::Tensor tokens = integers({3, 40}, [](int64_t i) { return i % 5; });
  const Op op = [&](const Tensors& in) {
    return ops::embedding(in[0], tokens.to(in[0].device()), in[0].scalar_type());
  };
  for (const at::ScalarType dtype : kDtypes) expect_as_on_cpu(op, {normal({11, 24}, 1, 1)}, dtype, rounding(dtype));
}

at::Tensor some_targets(int64_t tokens, int64_t vocab) {
  return integers({tokens}, [&](int64_t i) { return i % 7 == 3 ? -100 : i * 3989 % vocab; });
}

TEST_F(GpuOps, LinearCrossEntropy) {
  for (const int64_t vocab : {1511, 2048}) {
    const at::Tensor targets = some_targets(100, vocab);
    const Op op = [&](const Tensors& in) {
      return ops::linear_cross_entropy(in[0], in[1], targets.to(in[0].device()), 0.25);
    };
    for (const at::ScalarType dtype : kDtypes)
      expect_as_on_cpu(op, {normal({100, 64}, 1, 1), normal({vocab, 64}, 0.3, 2)}, dtype, 2 * rounding(dtype));
  }
}

TEST_F(GpuOps, LinearCrossEntropyWithALowRankAddition) {
  const at::Tensor targets = some_targets(100, 1511);
  const Op op = [&](const Tensors& in) {
    return ops::linear_cross_entropy(in[0], in[1], targets.to(in[0].device()), 0.25, "", {in[2], in[3]});
  };
  for (const at::ScalarType dtype : kDtypes)
    expect_as_on_cpu(
        op, {normal({100, 32}, 1, 1), normal({1511, 32}, 0.3, 2), normal({100, 8}, 1, 3), normal({1511, 8}, 0.3, 4)},
        dtype, 2 * rounding(dtype));
}

// 400,000 classes in fp32: 167 tokens fill a chunk, so 400 tokens make three.
TEST_F(GpuOps, LinearCrossEntropyInChunks) {
  const at::Tensor targets = some_targets(400, 400000);
  const Op op = [&](const Tensors& in) {
    return ops::linear_cross_entropy(in[0], in[1], targets.to(in[0].device()), 1);
  };
  expect_as_on_cpu(op, {normal({400, 4}, 1, 1), normal({400000, 4}, 1, 2)}, at::kFloat, 1e-4);
}

TEST_F(GpuOps, LinearCrossEntropyWithoutTargetsIsZero) {
  const at::Tensor none = integers({5}, [](int64_t) { return -100; });
  const Op op = [&](const Tensors& in) { return ops::linear_cross_entropy(in[0], in[1], none.to(in[0].device()), 1); };
  const Ran ran = run(op, {normal({5, 8}, 1, 1), normal({9, 8}, 1, 2)}, at::kBFloat16, at::kCUDA);
  EXPECT_EQ(ran.y.item<double>(), 0);
  EXPECT_EQ(ran.grads[0].abs().max().item<double>(), 0);
}

TEST_F(GpuOps, LinearCrossEntropyRefusesTargetsBeyondTheVocabulary) {
  const at::Tensor x = normal({2, 5}, 1, 1).to(at::kCUDA), w = normal({9, 5}, 1, 2).to(at::kCUDA);
  for (const int64_t target : {9, -1}) {
    const at::Tensor targets = integers({2}, [&](int64_t) { return target; }).to(at::kCUDA);
    EXPECT_THROW(ops::linear_cross_entropy(x, w, targets, 1), Error);
  }
}

// Views that begin off the grid of 16 bytes, and strided ones.
TEST_F(GpuOps, TakesViews) {
  const Op norm = [](const Tensors& in) {
    return ops::rms_norm(in[0].flatten().narrow(0, 3, 5 * 64).view({5, 64}), in[1].narrow(0, 1, 64), 1e-5);
  };
  const Op gated = [](const Tensors& in) { return ops::swiglu(in[0].t(), in[1].narrow(1, 2, 16).t()); };
  for (const at::ScalarType dtype : kDtypes) {
    expect_as_on_cpu(norm, {normal({6, 64}, 1, 1), normal({66}, 1, 2)}, dtype, rounding(dtype));
    expect_as_on_cpu(gated, {normal({24, 16}, 1, 1), normal({24, 20}, 1, 2)}, dtype, rounding(dtype));
  }
}

TEST_F(GpuOps, RefusesWhatLiesOnTheHost) {
  const at::Tensor x = normal({1, 4, 2, 8}, 1, 1).to(at::kCUDA), table = normal({9, 4}, 1, 2);
  const at::Tensor positions = integers({1, 4}, [](int64_t i) { return i; });
  EXPECT_THROW(ops::rope(x, table, table, positions), Error);
  EXPECT_THROW(ops::counter_dropout(x, integers({8}, [](int64_t i) { return i; }), 0.1), Error);
}

}  // namespace
}  // namespace ft::testing
