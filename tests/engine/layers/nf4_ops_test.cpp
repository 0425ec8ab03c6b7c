// ft::nf4_quantize and ft::nf4_dequantize against the codec of engine/quant.
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "engine/error/error.h"
#include "engine/layers/device_op.h"
#include "engine/layers/op_signatures.h"
#include "engine/quant/nf4.h"
#include "tests/engine/layers/model_fixture.h"

namespace ft::testing {
namespace {

std::tuple<at::Tensor, double> quantize(const at::Tensor& x, bool double_quant) {
  static const DeviceOp<signature::Nf4Quantize> op("ft::nf4_quantize");
  return op(x, double_quant);
}

TEST(Nf4Ops, QuantizeAsTheCodecDoes) {
  for (const int64_t rows : {1, 100, 700})  // part of a group, one and a half, many
    for (const bool double_quant : {true, false}) {
      const at::Tensor x = formula("x", {rows, 257}, 0.05).t();  // not contiguous
      const auto [records, offset] = quantize(x, double_quant);
      const at::Tensor dense = x.contiguous();
      const auto want =
          nf4::quantize(DType::f32, static_cast<const std::byte*>(dense.const_data_ptr()), dense.numel(), double_quant);
      const auto* bytes = records.const_data_ptr<uint8_t>();
      EXPECT_EQ(std::vector<uint8_t>(bytes, bytes + records.numel()), want.records);
      EXPECT_EQ(static_cast<float>(offset), want.offset);
      static const DeviceOp<signature::Nf4Dequantize> dequantize("ft::nf4_dequantize");
      const at::Tensor back = dequantize(records, 257, rows, offset, double_quant, at::kFloat);
      EXPECT_LT(back.sub(dense).abs().max().item<double>(),
                0.05 * 0.2);  // half the widest gap of the codebook, and scales
    }
}

TEST(Nf4Ops, QuantizeRefusesNaN) {
  at::Tensor x = formula("x", {1000}, 1);
  x[999] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(quantize(x, true), Error);
}

}  // namespace
}  // namespace ft::testing
