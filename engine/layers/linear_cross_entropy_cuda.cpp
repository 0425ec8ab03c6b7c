// The head's loss for CUDA tensors: logits of a chunk of tokens, their softmax in place (cross_entropy.cu), and the
// gradients from it at once, as linear_cross_entropy_cpu.cpp has it.
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <string>

#include "engine/error/error.h"
#include "engine/layers/cross_entropy_device.h"
#include "engine/layers/cuda_ops.h"
#include "engine/layers/low_rank_logits.h"
#include "engine/parallel/scalar_type.h"

namespace ft::cuda {
namespace {

// More than on the CPU: the GEMMs need some hundred rows to fill a GPU, and each chunk passes over the weight's
// gradient.
constexpr int64_t kLogitBytes = int64_t{256} << 20;

// Rows of the tokens that have a target. Waits for the device.
at::Tensor targeted_rows(const at::Tensor& targets, int64_t vocab) {
  const at::Tensor kept = targets.ne(-100);
  const at::Tensor beyond = targets.lt(0).logical_or_(targets.ge(vocab)).logical_and_(kept);
  at::Tensor rows = kept.nonzero().view({-1});
  if (beyond.any().item<bool>())
    throw Error(ErrorKind::shape, "got target " + std::to_string(targets.masked_select(beyond)[0].item<int64_t>()) +
                                      ", want an id below " + std::to_string(vocab))
        .key("ft::linear_cross_entropy");
  return rows;
}

// sum (fp32) += aᵀ·b; for the half dtypes cuBLAS accumulates into fp32 at once, and no product is rounded.
void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == at::kFloat) {
    sum.addmm_(a.t(), b);
  } else {
    at::addmm_out(sum, sum, a.t(), b, at::kFloat);
  }
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> linear_cross_entropy_forward(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets_in, const std::optional<at::Tensor>& low,
    const std::optional<at::Tensor>& up, double scale, bool want_x, bool want_weight) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t width = x.size(-1), vocab = weight.size(0);
  if (weight.size(1) != width || targets_in.numel() * width != x.numel() || targets_in.device() != x.device())
    throw Error(ErrorKind::shape, "got x's last dim " + std::to_string(width) + ", weight's " +
                                      std::to_string(weight.size(1)) + ", " + std::to_string(targets_in.numel()) +
                                      " targets on " + targets_in.device().str() +
                                      ", want equal dims and a target a token, on " + x.device().str())
        .key("ft::linear_cross_entropy");
  const at::Tensor targets = targets_in.reshape({-1}), rows = targeted_rows(targets, vocab);
  const at::Tensor target = targets.index_select(0, rows);
  const at::Tensor tokens = x.reshape({-1, width}), w = weight.to(x.scalar_type());
  LowRankLogits addition(low, up, x.scalar_type(), want_x);
  at::Tensor gx, gw;
  if (want_x) gx = at::zeros_like(tokens);
  if (want_weight) gw = at::zeros(weight.sizes(), weight.options().dtype(at::kFloat));

  const int64_t count = rows.numel();
  const int64_t chunk = std::max<int64_t>(1, kLogitBytes / (vocab * static_cast<int64_t>(x.element_size())));
  const float gradient_scale = want_x || want_weight ? static_cast<float>(scale) : 0.f;
  const at::Tensor nll = at::zeros({count}, x.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t size = std::min(chunk, count - begin);
    const at::Tensor index = rows.narrow(0, begin, size), part = tokens.index_select(0, index);
    at::Tensor logits = at::mm(part, w.t());
    addition.add_to(logits, index);
    device::cross_entropy({dtype_of(logits.scalar_type()), size, vocab, target.const_data_ptr<int64_t>() + begin},
                          logits.data_ptr(), gradient_scale, nll.data_ptr<double>() + begin,
                          c10::cuda::getCurrentCUDAStream());
    if (want_x) gx.index_copy_(0, index, at::mm(logits, w));
    if (want_weight) add_product(gw, logits, part);
    addition.backward(logits, index, add_product);
  }
  const at::Tensor loss = nll.sum().mul(scale).to(at::kFloat);
  return {loss, want_x ? gx.view(x.sizes()) : gx, gw, addition.low_grad(), addition.up_grad()};
}

}  // namespace ft::cuda
