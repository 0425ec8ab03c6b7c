// NF4 on the GPU: the CPU's bits, both ways; linears on NF4 weights with adapters.
#include "engine/quant/nf4.h"

#include <ATen/ops/zeros.h>

#include "engine/error/error.h"
#include "engine/layers/device_op.h"
#include "engine/layers/op_signatures.h"
#include "engine/layers/ops.h"
#include "tests/gpu/gpu.h"

namespace ft::testing {
namespace {

using GpuNf4 = Gpu;

std::tuple<at::Tensor, double> quantize(const at::Tensor& x, bool double_quant) {
  static const DeviceOp<signature::Nf4Quantize> op("ft::nf4_quantize");
  return op(x, double_quant);
}

at::Tensor dequantize(const at::Tensor& records, int64_t rows, int64_t columns, double offset, bool double_quant,
                      at::ScalarType dtype) {
  static const DeviceOp<signature::Nf4Dequantize> op("ft::nf4_dequantize");
  return op(records, rows, columns, offset, double_quant, dtype);
}

// Short last blocks and groups, whole ones, a block of zeros.
TEST_F(GpuNf4, GivesTheBitsOfTheCpuBothWays) {
  for (const int64_t count : {1, 63, 64, 65, 1000, 16384, 16385, 50000, 40 * 16384})
    for (const bool double_quant : {true, false})
      for (const at::ScalarType dtype : kDtypes) {
        SCOPED_TRACE(std::to_string(count) + " of " + c10::toString(dtype) + (double_quant ? ", nested" : ""));
        at::Tensor x = normal({count}, 0.02, 1).to(dtype);
        if (count > 128) x.narrow(0, 64, 64).zero_();
        const auto [want, want_offset] = quantize(x, double_quant);
        const auto [got, got_offset] = quantize(x.to(at::kCUDA), double_quant);
        EXPECT_TRUE(got.cpu().equal(want));
        EXPECT_EQ(got_offset, want_offset);
        for (const at::ScalarType to : kDtypes)
          EXPECT_TRUE(dequantize(got, 1, count, got_offset, double_quant, to)
                          .cpu()
                          .equal(dequantize(want, 1, count, want_offset, double_quant, to)));
      }
}

TEST_F(GpuNf4, RefusesNaN) {
  at::Tensor x = normal({1000}, 1, 1);
  x[999] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(quantize(x.to(at::kCUDA), true), Error);
}

TEST_F(GpuNf4, LinearWithAdapterAndDropout) {
  constexpr int64_t kOut = 96, kIn = 160, kRank = 8;
  const auto [records, offset] = quantize(normal({kOut, kIn}, 0.05, 1), true);
  const at::Tensor keys = integers({21}, [](int64_t i) { return i * 7919 * 104729; });
  const Op op = [&, &records = records, &offset = offset](const Tensors& in) {
    const at::Device on = in[0].device();
    const ops::BaseWeight base{records.to(on), true, kOut, offset, true};
    return ops::linear(in[0], base, {}, {in[1], in[2], 2.0, keys.to(on), 0.1});
  };
  const Tensors inputs{normal({3, 7, kIn}, 1, 2), normal({kRank, kIn}, 0.1, 3), normal({kOut, kRank}, 0.1, 4)};
  for (const at::ScalarType dtype : kDtypes) expect_as_on_cpu(op, inputs, dtype, 2 * rounding(dtype));
}

TEST_F(GpuNf4, DenseLinearWithBias) {
  const Op op = [](const Tensors& in) { return ops::linear(in[0], {.value = in[1]}, in[2], {}); };
  const Tensors inputs{normal({5, 9, 33}, 1, 1), normal({65, 33}, 0.2, 2), normal({65}, 1, 3)};
  for (const at::ScalarType dtype : kDtypes) expect_as_on_cpu(op, inputs, dtype, 2 * rounding(dtype));
}

}  // namespace
}  // namespace ft::testing
