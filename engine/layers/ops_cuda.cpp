// The engine's own kernels as the dispatcher calls them for CUDA tensors: nf4.cu and dropout.cu. Part of the CUDA
// plugin.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <string>

#include "engine/error/error.h"
#include "engine/layers/dropout_device.h"
#include "engine/parallel/scalar_type.h"
#include "engine/quant/nf4_device.h"

namespace ft::device {
namespace {

at::Tensor nf4_dequantize(const at::Tensor& records_in, int64_t rows, int64_t columns, double nested_offset,
                          bool double_quant, at::ScalarType dtype) {
  const c10::cuda::CUDAGuard guard(records_in.device());
  const at::Tensor records = records_in.contiguous();
  const int64_t count = rows * columns, bytes = static_cast<int64_t>(nf4::record_bytes(double_quant));
  if (records.scalar_type() != at::kByte || records.numel() != nf4::num_groups(count) * bytes)
    throw Error(ErrorKind::shape, "got " + std::to_string(records.numel()) + " bytes of records, want uint8 [" +
                                      std::to_string(nf4::num_groups(count)) + ", " + std::to_string(bytes) + "]")
        .key("ft::nf4_dequantize");
  at::Tensor out = at::empty({rows, columns}, records.options().dtype(dtype));
  nf4::dequantize_on_device({records.const_data_ptr<uint8_t>(), static_cast<float>(nested_offset), double_quant}, count,
                            dtype_of(dtype), out.data_ptr(), c10::cuda::getCurrentCUDAStream());
  return out;
}

void drop(const at::Tensor& x, const at::Tensor& keys_in, double p, at::Tensor& y, bool add) {
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor keys = keys_in.contiguous();
  const int64_t width = x.size(-1), rows = width == 0 ? 0 : x.numel() / width;
  if (keys.numel() != rows || p < 0 || p >= 1 || keys.device() != x.device())
    throw Error(ErrorKind::shape, "got " + std::to_string(keys.numel()) + " keys and p = " + std::to_string(p) +
                                      ", want a key a token (" + std::to_string(rows) + ") and p in [0, 1)")
        .key("ft::counter_dropout");
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16)
    throw Error(ErrorKind::shape, std::string("got ") + c10::toString(x.scalar_type()) + ", want fp32 or bf16")
        .key("ft::counter_dropout");
  dropout({keys.const_data_ptr<int64_t>(), rows, width, p, x.scalar_type() == at::kBFloat16}, x.const_data_ptr(),
          y.data_ptr(), add, c10::cuda::getCurrentCUDAStream());
}

at::Tensor dropout_forward(const at::Tensor& x_in, const at::Tensor& keys, double p) {
  const at::Tensor x = x_in.contiguous();
  at::Tensor y = at::empty_like(x);
  drop(x, keys, p, y, /*add=*/false);
  return y;
}

void dropout_add(at::Tensor into, const at::Tensor& x_in, const at::Tensor& keys, double p) {
  const at::Tensor x = x_in.contiguous();
  FT_CHECK(into.is_contiguous() && into.scalar_type() == x.scalar_type(), "dropout_add: dense, of one dtype");
  drop(x, keys, p, into, /*add=*/true);
}

}  // namespace

TORCH_LIBRARY_IMPL(ft, CUDA, m) {
  m.impl("nf4_dequantize", nf4_dequantize);
  m.impl("dropout_forward", dropout_forward);
  m.impl("dropout_add", dropout_add);
}

}  // namespace ft::device
