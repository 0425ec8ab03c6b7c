/// The head's loss on the CPU: logits of a chunk of tokens, their softmax in place, and both gradients from it at once.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/error/error.h"
#include "engine/layers/cpu_ops.h"
#include "engine/layers/fused_kernels.h"
#include "engine/layers/low_rank_logits.h"
#include "engine/parallel/add_in_pieces.h"

namespace ft::cpu {
namespace {

// Rows of the tokens that have a target.
at::Tensor targeted_rows(const at::Tensor& targets, int64_t vocab) {
  const auto* target = targets.data_ptr<int64_t>();
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < targets.numel(); ++i) {
    if (target[i] == -100) continue;
    if (target[i] < 0 || target[i] >= vocab)
      throw Error(ErrorKind::shape,
                  "got target " + std::to_string(target[i]) + ", want an id below " + std::to_string(vocab))
          .key("ft::linear_cross_entropy");
    rows.push_back(i);
  }
  return at::from_blob(rows.data(), {static_cast<int64_t>(rows.size())}, at::kLong).clone();
}

template <class T>
void chunk_losses(at::Tensor& logits, const int64_t* target, float scale, double* nll) {
  const int64_t vocab = logits.size(1);
  T* data = static_cast<T*>(logits.data_ptr());
  at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      nll[r] = row_kernels<T>().cross_entropy(data + r * vocab, vocab, target[r], scale);
  });
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> linear_cross_entropy_forward(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, const std::optional<at::Tensor>& low,
    const std::optional<at::Tensor>& up, double scale, bool want_x, bool want_weight) {
  const int64_t width = x.size(-1), vocab = weight.size(0);
  if (weight.size(1) != width || targets.numel() * width != x.numel())
    throw Error(ErrorKind::shape, "got x's last dim " + std::to_string(width) + ", weight's " +
                                      std::to_string(weight.size(1)) + ", " + std::to_string(targets.numel()) +
                                      " targets, want equal dims and a target a token")
        .key("ft::linear_cross_entropy");
  const at::Tensor rows = targeted_rows(targets.contiguous(), vocab);
  const at::Tensor target = targets.reshape({-1}).index_select(0, rows);
  const at::Tensor tokens = x.reshape({-1, width}), w = weight.to(x.scalar_type());
  LowRankLogits addition(low, up, x.scalar_type(), want_x);
  at::Tensor gx, gw;
  if (want_x) gx = at::zeros_like(tokens);

  const int64_t count = rows.numel();
  const int64_t chunk = std::max<int64_t>(1, kLogitBytes / (vocab * static_cast<int64_t>(x.element_size())));
  // The gradient of one chunk is the product itself; more are summed in fp32.
  const bool whole = count > 0 && count <= chunk;
  if (want_weight && !whole) gw = at::zeros(weight.sizes(), weight.options().dtype(at::kFloat));
  // Before the logits, so that their memory is free as one piece with what follows when the gradient goes on its way.
  if (want_weight && whole) gw = at::empty(weight.sizes(), x.options());
  const float gradient_scale = want_x || want_weight ? static_cast<float>(scale) : 0.f;
  std::vector<double> nll(static_cast<size_t>(count));
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t size = std::min(chunk, count - begin);
    const at::Tensor index = rows.narrow(0, begin, size), part = tokens.index_select(0, index);
    at::Tensor logits = at::mm(part, w.t());
    addition.add_to(logits, index);
    const auto losses = logits.scalar_type() == at::kFloat  ? chunk_losses<float>
                        : logits.scalar_type() == at::kHalf ? chunk_losses<Fp16>
                                                            : chunk_losses<Bf16>;
    losses(logits, target.data_ptr<int64_t>() + begin, gradient_scale, nll.data() + begin);
    if (want_x) gx.index_copy_(0, index, at::mm(logits, w));
    if (want_weight && whole) at::mm_out(gw, logits.t(), part);
    if (want_weight && !whole) add_in_pieces(gw.view({-1}), at::mm(logits.t(), part).view({-1}));
    addition.backward(logits, index,
                      [](at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) { sum.add_(at::mm(a.t(), b)); });
  }
  double total = 0;
  for (const double one : nll) total += one;
  at::Tensor loss = at::empty({}, x.options().dtype(at::kFloat));
  *loss.data_ptr<float>() = static_cast<float>(scale * total);
  return {loss, want_x ? gx.view(x.sizes()) : gx, gw, addition.low_grad(), addition.up_grad()};
}

}  // namespace ft::cpu
