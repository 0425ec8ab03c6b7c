// RMSNorm, RoPE, SwiGLU and dropout for CUDA tensors: shapes checked, results made, kernels queued.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <string>

#include "engine/error/error.h"
#include "engine/layers/cuda_ops.h"
#include "engine/layers/dropout_device.h"
#include "engine/layers/rms_norm_device.h"
#include "engine/layers/rope_device.h"
#include "engine/layers/swiglu_device.h"
#include "engine/parallel/scalar_type.h"

namespace ft::cuda {
namespace {

DType float_dtype(const at::Tensor& x, const char* op) {
  const at::ScalarType type = x.scalar_type();
  if (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf) return dtype_of(type);
  throw Error(ErrorKind::shape, std::string("got ") + c10::toString(type) + ", want fp32, bf16 or fp16").key(op);
}

// x's neighbour in an op: of its dtype, size and device.
void check_like(const at::Tensor& x, const at::Tensor& other, const char* op) {
  if (other.scalar_type() == x.scalar_type() && other.numel() == x.numel() && other.device() == x.device()) return;
  throw Error(ErrorKind::shape, "got " + std::to_string(other.numel()) + " elements of " +
                                    c10::toString(other.scalar_type()) + " on " + other.device().str() + ", want " +
                                    std::to_string(x.numel()) + " of " + c10::toString(x.scalar_type()) + " on " +
                                    x.device().str())
      .key(op);
}

at::Tensor norm_weight(const at::Tensor& x, const at::Tensor& weight) {
  if (weight.numel() != x.size(-1) || weight.device() != x.device())
    throw Error(ErrorKind::shape, "got weight " + std::to_string(weight.numel()) + " on " + weight.device().str() +
                                      ", want x's last dim " + std::to_string(x.size(-1)) + " on " + x.device().str())
        .key("ft::rms_norm");
  return (weight.scalar_type() == x.scalar_type() ? weight : weight.to(at::kFloat)).contiguous();
}

device::NormRows norm_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd) {
  return {.dtype = float_dtype(x, "ft::rms_norm"),
          .weight_dtype = dtype_of(weight.scalar_type()),
          .rows = rstd.numel(),
          .width = x.size(-1),
          .x = x.const_data_ptr(),
          .weight = weight.const_data_ptr(),
          .rstd = rstd.mutable_data_ptr<float>()};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> rms_norm_forward(const at::Tensor& x_in, const at::Tensor& weight, double eps) {
  const c10::cuda::CUDAGuard guard(x_in.device());
  const at::Tensor x = x_in.contiguous(), w = norm_weight(x, weight);
  const int64_t rows = x.numel() / std::max<int64_t>(1, x.size(-1));
  at::Tensor y = at::empty_like(x), rstd = at::empty({rows}, x.options().dtype(at::kFloat));
  device::rms_norm(norm_rows(x, w, rstd), static_cast<float>(eps), y.data_ptr(), c10::cuda::getCurrentCUDAStream());
  return {y, rstd};
}

std::tuple<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& grad_in, const at::Tensor& x_in,
                                                     const at::Tensor& weight, const at::Tensor& rstd, bool want_x,
                                                     bool want_weight) {
  const c10::cuda::CUDAGuard guard(x_in.device());
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  const at::Tensor x = x_in.contiguous(), grad = grad_in.contiguous(), w = norm_weight(x, weight);
  check_like(x, grad, "ft::rms_norm");
  const device::NormRows rows = norm_rows(x, w, rstd);
  at::Tensor gx, gw;
  if (want_x) {
    gx = at::empty_like(x);
    device::rms_norm_input_gradient(rows, grad.const_data_ptr(), gx.data_ptr(), stream);
  }
  if (want_weight) {
    const at::Tensor parts = at::empty({device::rms_norm_parts(rows.rows), rows.width}, rstd.options());
    device::rms_norm_weight_gradient(rows, grad.const_data_ptr(), parts.data_ptr<float>(), stream);
    gw = parts.sum(0);
  }
  return {gx, gw};
}

at::Tensor rope_forward(const at::Tensor& x_in, const at::Tensor& cos_in, const at::Tensor& sin_in,
                        const at::Tensor& positions_in, bool inverse) {
  const c10::cuda::CUDAGuard guard(x_in.device());
  const at::Tensor x = x_in.contiguous(), cos = cos_in.contiguous(), sin = sin_in.contiguous();
  const at::Tensor positions = positions_in.contiguous();
  const int64_t heads = x.size(2), width = x.size(3), tokens = x.size(0) * x.size(1);
  if (cos.size(1) != width / 2 || positions.numel() != tokens || cos.device() != x.device() ||
      sin.device() != x.device() || positions.device() != x.device())
    throw Error(ErrorKind::shape, "got x [.., " + std::to_string(heads) + ", " + std::to_string(width) + "] on " +
                                      x.device().str() + ", tables of " + std::to_string(cos.size(1)) + " on " +
                                      cos.device().str() + ", " + std::to_string(positions.numel()) + " positions on " +
                                      positions.device().str() +
                                      ", want half of x's last dim and a position a token, on its device")
        .key("ft::rope");
  at::Tensor y = at::empty_like(x);
  device::rope({.dtype = float_dtype(x, "ft::rope"),
                .tokens = tokens,
                .heads = heads,
                .half = width / 2,
                .cos = cos.const_data_ptr<float>(),
                .sin = sin.const_data_ptr<float>(),
                .positions = positions.const_data_ptr<int64_t>()},
               inverse, x.const_data_ptr(), y.data_ptr(), c10::cuda::getCurrentCUDAStream());
  return y;
}

at::Tensor swiglu_forward(const at::Tensor& gate_in, const at::Tensor& up_in) {
  const c10::cuda::CUDAGuard guard(gate_in.device());
  const at::Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
  check_like(gate, up, "ft::swiglu");
  at::Tensor y = at::empty_like(gate);
  device::swiglu({float_dtype(gate, "ft::swiglu"), gate.numel(), gate.const_data_ptr(), up.const_data_ptr()},
                 y.data_ptr(), c10::cuda::getCurrentCUDAStream());
  return y;
}

std::tuple<at::Tensor, at::Tensor> swiglu_backward(const at::Tensor& grad_in, const at::Tensor& gate_in,
                                                   const at::Tensor& up_in) {
  const c10::cuda::CUDAGuard guard(gate_in.device());
  const at::Tensor grad = grad_in.contiguous(), gate = gate_in.contiguous(), up = up_in.contiguous();
  check_like(gate, up, "ft::swiglu");
  check_like(gate, grad, "ft::swiglu");
  at::Tensor ggate = at::empty_like(gate), gup = at::empty_like(up);
  device::swiglu_backward({float_dtype(gate, "ft::swiglu"), gate.numel(), gate.const_data_ptr(), up.const_data_ptr()},
                          grad.const_data_ptr(), ggate.data_ptr(), gup.data_ptr(), c10::cuda::getCurrentCUDAStream());
  return {ggate, gup};
}

namespace {

void drop(const at::Tensor& x, const at::Tensor& keys_in, double p, const at::Tensor& y, bool add) {
  const at::Tensor keys = keys_in.contiguous();
  const int64_t width = x.size(-1), rows = width == 0 ? 0 : x.numel() / width;
  if (keys.numel() != rows || p < 0 || p >= 1 || keys.device() != x.device())
    throw Error(ErrorKind::shape, "got " + std::to_string(keys.numel()) + " keys on " + keys.device().str() +
                                      " and p = " + std::to_string(p) + ", want a key a token (" +
                                      std::to_string(rows) + ") on " + x.device().str() + " and p in [0, 1)")
        .key("ft::counter_dropout");
  device::dropout({float_dtype(x, "ft::counter_dropout"), keys.const_data_ptr<int64_t>(), rows, width, p},
                  x.const_data_ptr(), y.mutable_data_ptr(), add, c10::cuda::getCurrentCUDAStream());
}

}  // namespace

at::Tensor dropout_forward(const at::Tensor& x_in, const at::Tensor& keys, double p) {
  const c10::cuda::CUDAGuard guard(x_in.device());
  const at::Tensor x = x_in.contiguous();
  at::Tensor y = at::empty_like(x);
  drop(x, keys, p, y, /*add=*/false);
  return y;
}

void dropout_add(at::Tensor into, const at::Tensor& x_in, const at::Tensor& keys, double p) {
  const c10::cuda::CUDAGuard guard(x_in.device());
  const at::Tensor x = x_in.contiguous();
  FT_CHECK(into.is_contiguous(), "dropout_add: dense");
  check_like(x, into, "ft::counter_dropout");
  drop(x, keys, p, into, /*add=*/true);
}

}  // namespace ft::cuda
