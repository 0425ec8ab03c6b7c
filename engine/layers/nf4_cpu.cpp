/// NF4 weights to dense ones and back on the CPU: the codec of engine/quant/nf4.h, blocks dealt to threads.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/error/error.h"
#include "engine/layers/cpu_ops.h"
#include "engine/parallel/scalar_type.h"
#include "engine/quant/nf4.h"

namespace ft::cpu {

at::Tensor nf4_dequantize(const at::Tensor& records_in, int64_t rows, int64_t columns, double nested_offset,
                          bool double_quant, at::ScalarType dtype) {
  constexpr int64_t kGrain = 16 * nf4::kBlock * 16;  // a quarter of a group: some microseconds
  const at::Tensor records = records_in.contiguous();
  const int64_t count = rows * columns, bytes = static_cast<int64_t>(nf4::record_bytes(double_quant));
  if (records.scalar_type() != at::kByte || records.numel() != nf4::num_groups(count) * bytes)
    throw Error(ErrorKind::shape, "got " + std::to_string(records.numel()) + " bytes of records, want uint8 [" +
                                      std::to_string(nf4::num_groups(count)) + ", " + std::to_string(bytes) + "]")
        .key("ft::nf4_dequantize");
  at::Tensor out = at::empty({rows, columns}, records.options().dtype(dtype));
  const nf4::Records source{records.data_ptr<uint8_t>(), static_cast<float>(nested_offset), double_quant};
  auto* first = static_cast<std::byte*>(out.data_ptr());
  const int64_t grains = (count + kGrain - 1) / kGrain, width = static_cast<int64_t>(out.element_size());
  at::parallel_for(0, grains, 1, [&](int64_t begin, int64_t end) {
    const int64_t from = begin * kGrain, to = std::min(count, end * kGrain);
    nf4::dequantize(source, from, to - from, dtype_of(dtype), first + from * width);
  });
  return out;
}

std::tuple<at::Tensor, double> nf4_quantize(const at::Tensor& x_in, bool double_quant) {
  const at::Tensor x = x_in.contiguous();
  const int64_t count = x.numel(), groups = nf4::num_groups(count);
  const auto bytes = static_cast<int64_t>(nf4::record_bytes(double_quant)),
             width = static_cast<int64_t>(x.element_size());
  at::Tensor records = at::empty({groups, bytes}, x.options().dtype(at::kByte));
  auto* to = records.data_ptr<uint8_t>();
  const auto* from = static_cast<const std::byte*>(x.const_data_ptr());
  const DType dtype = dtype_of(x.scalar_type());
  std::vector<float> absmax(static_cast<size_t>(groups * nf4::kNestedBlock));
  std::vector<double> sums(static_cast<size_t>(groups));
  at::parallel_for(0, groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
      sums[static_cast<size_t>(g)] =
          nf4::quantize_codes(dtype, from + g * nf4::kGroup * width, std::min(nf4::kGroup, count - g * nf4::kGroup),
                              to + g * bytes, absmax.data() + g * nf4::kNestedBlock);
  });
  const float offset = nf4::nested_offset(sums, count);
  at::parallel_for(0, groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      const int64_t blocks = nf4::num_blocks(std::min(nf4::kGroup, count - g * nf4::kGroup));
      nf4::store_scales({absmax.data() + g * nf4::kNestedBlock, static_cast<size_t>(blocks)}, offset, double_quant,
                        to + g * bytes);
    }
  });
  return {records, double_quant ? static_cast<double>(offset) : 0.0};
}

}  // namespace ft::cpu
