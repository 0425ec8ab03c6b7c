// NF4 weights to dense ones and back for CUDA tensors: the kernels of nf4.cu and nf4_quantize.cu.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <string>

#include "engine/error/error.h"
#include "engine/layers/cuda_ops.h"
#include "engine/parallel/scalar_type.h"
#include "engine/quant/nf4_device.h"

namespace ft::cuda {

at::Tensor nf4_dequantize(const at::Tensor& records_in, int64_t rows, int64_t columns, double nested_offset,
                          bool double_quant, at::ScalarType dtype) {
  const c10::cuda::CUDAGuard guard(records_in.device());
  const at::Tensor records = records_in.contiguous();
  const int64_t count = rows * columns, bytes = static_cast<int64_t>(nf4::record_bytes(double_quant));
  if (records.scalar_type() != at::kByte || records.numel() != nf4::num_groups(count) * bytes)
    throw Error(ErrorKind::shape, "got " + std::to_string(records.numel()) + " bytes of records, want uint8 [" +
                                      std::to_string(nf4::num_groups(count)) + ", " + std::to_string(bytes) + "]")
        .key("ft::nf4_dequantize");
  const auto* data = records.const_data_ptr<uint8_t>();
  FT_CHECK(reinterpret_cast<uintptr_t>(data) % sizeof(float) == 0, "records begin at a multiple of four bytes");
  at::Tensor out = at::empty({rows, columns}, records.options().dtype(dtype));
  nf4::dequantize_on_device({data, static_cast<float>(nested_offset), double_quant}, count, dtype_of(dtype),
                            out.data_ptr(), c10::cuda::getCurrentCUDAStream());
  return out;
}

std::tuple<at::Tensor, double> nf4_quantize(const at::Tensor& x_in, bool double_quant) {
  const c10::cuda::CUDAGuard guard(x_in.device());
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  const at::Tensor x = x_in.contiguous();
  const int64_t count = x.numel(), groups = nf4::num_groups(count);
  const auto on_device = [&](at::IntArrayRef shape, at::ScalarType type) {
    return at::empty(shape, x.options().dtype(type));
  };
  at::Tensor records = on_device({groups, static_cast<int64_t>(nf4::record_bytes(double_quant))}, at::kByte);
  const at::Tensor absmax = on_device({groups, nf4::kNestedBlock}, at::kFloat), sums = on_device({groups}, at::kDouble);
  const nf4::QuantizedCodes to{records.data_ptr<uint8_t>(), absmax.data_ptr<float>(), sums.data_ptr<double>()};
  nf4::quantize_codes_on_device(dtype_of(x.scalar_type()), x.const_data_ptr(), count, double_quant, to, stream);
  const at::Tensor host_sums = sums.cpu();
  const float offset = nf4::nested_offset({host_sums.const_data_ptr<double>(), static_cast<size_t>(groups)}, count);
  nf4::store_scales_on_device(to, count, double_quant, offset, stream);
  return {records, double_quant ? static_cast<double>(offset) : 0.0};
}

}  // namespace ft::cuda
