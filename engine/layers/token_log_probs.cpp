#include "engine/layers/token_log_probs.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "engine/layers/compute.h"
#include "engine/layers/cpu_ops.h"

namespace ft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using Maybe = std::optional<at::Tensor>;

// What forward and backward share. Rows: tokens with a target.
struct Rows {
  at::Tensor x, weight, low, up, targets;  // [n, D], [V, D], [n, r], [V, r], [n]; all but targets in x's dtype
  double softcap = 0;

  int64_t size() const { return x.size(0); }
  int64_t chunk() const {
    return std::max<int64_t>(1, cpu::kLogitBytes / (weight.size(0) * static_cast<int64_t>(sizeof(float))));
  }
  /// fp32 logits of rows [at, at + count).
  at::Tensor logits(int64_t at, int64_t count) const {
    at::Tensor made = at::mm(x.narrow(0, at, count), weight.t()).to(at::kFloat);
    if (low.defined()) made.add_(at::mm(low.narrow(0, at, count), up.t()));
    return softcap == 0 ? made : made.div_(softcap).tanh_().mul_(softcap);
  }
};

// Places of the tokens with a target, on the device of `where`. Of tensors without values: the first so many, and all
// where targets have none either.
at::Tensor targeted(const at::Tensor& targets, const at::Tensor& where) {
  if (targets.is_meta()) return at::arange(targets.numel(), targets.options());
  const at::Tensor found = targets.ne(-100).nonzero().squeeze(1);
  return where.is_meta() ? at::arange(found.numel(), where.options().dtype(at::kLong)) : found;
}

// fp32 [n] of [n, V]; of tensors without values, what has no kernel there: a tensor of its size, and the copy.
at::Tensor row_norms(const at::Tensor& logits) {
  return logits.is_meta() ? at::empty_like(logits).select(1, 0) : at::logsumexp(logits, {1});
}

void add_to(at::Tensor& sum, const at::Tensor& part) {
  if (sum.defined())
    sum.add_(part);
  else
    sum = part.to(at::kFloat);
}

struct TokenLogProbs : Function<TokenLogProbs> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& x, const at::Tensor& weight, const Maybe& low,
                            const Maybe& up, const at::Tensor& targets, double softcap, const std::string& owner) {
    check_gathered(weight, owner);
    if (up) check_gathered(*up, owner);
    const at::Tensor flat = targets.reshape({-1}), kept = targeted(flat, x);
    const auto take = [&](const at::Tensor& t) { return t.reshape({-1, t.size(-1)}).index_select(0, kept); };
    const Rows rows{take(x),
                    in_dtype(weight, x.scalar_type()),
                    low ? take(*low) : at::Tensor(),
                    up ? in_dtype(*up, x.scalar_type()) : at::Tensor(),
                    flat.to(kept.device()).index_select(0, kept),
                    softcap};
    const auto fp32 = x.options().dtype(at::kFloat);
    const at::Tensor found = at::zeros({rows.size()}, fp32), norms = at::zeros({rows.size()}, fp32);
    for (int64_t at = 0; at < rows.size(); at += rows.chunk()) {
      const int64_t count = std::min(rows.chunk(), rows.size() - at);
      const at::Tensor logits = rows.logits(at, count), lse = norms.narrow(0, at, count);
      lse.copy_(row_norms(logits));
      const at::Tensor own = logits.gather(1, rows.targets.narrow(0, at, count).unsqueeze(1)).squeeze(1);
      found.narrow(0, at, count).copy_(at::sub(own, lse));
    }
    node->save_for_backward({rows.x, weight, rows.low, up.value_or(at::Tensor()), rows.targets, kept, norms});
    node->saved_data["softcap"] = softcap;
    node->saved_data["owner"] = owner;
    node->saved_data["shape"] = x.sizes().vec();
    return at::zeros({targets.numel()}, fp32).index_copy_(0, kept, found).view(targets.sizes());
  }

  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    const auto s = node->get_saved_variables();
    check_gathered(s[1], node->saved_data["owner"].toStringView());
    if (s[3].defined()) check_gathered(s[3], node->saved_data["owner"].toStringView());
    const at::ScalarType dtype = s[0].scalar_type();
    const Rows rows{s[0], in_dtype(s[1], dtype),
                    s[2], s[3].defined() ? in_dtype(s[3], dtype) : at::Tensor(),
                    s[4], node->saved_data["softcap"].toDouble()};
    const bool adapted = rows.low.defined(), want_weight = node->needs_input_grad(1);
    const at::Tensor g = grads[0].reshape({-1}).index_select(0, s[5]).to(at::kFloat);
    at::Tensor gx = at::zeros_like(rows.x), glow, gup, gw;
    if (adapted) glow = at::zeros_like(rows.low);
    for (int64_t at = 0; at < rows.size(); at += rows.chunk()) {
      const int64_t count = std::min(rows.chunk(), rows.size() - at);
      const at::Tensor d = in_dtype(logit_grads(rows, at, count, s[6], g), dtype);
      gx.narrow(0, at, count).copy_(at::mm(d, rows.weight));
      if (want_weight) add_to(gw, at::mm(d.t(), rows.x.narrow(0, at, count)));
      if (!adapted) continue;
      glow.narrow(0, at, count).copy_(at::mm(d, rows.up));
      add_to(gup, at::mm(d.t(), rows.low.narrow(0, at, count)));
    }
    const auto spread = [&](const at::Tensor& part) {
      auto shape = node->saved_data["shape"].toIntVector();
      shape.back() = part.size(1);
      const int64_t tokens = grads[0].numel();
      return at::zeros({tokens, part.size(1)}, part.options()).index_copy_(0, s[5], part).view(shape);
    };
    return {spread(gx), gw, adapted ? spread(glow) : glow, gup, {}, {}, {}};
  }

  /// g · (one at the target − softmax), through the cap.
  static at::Tensor logit_grads(const Rows& rows, int64_t at, int64_t count, const at::Tensor& norms,
                                const at::Tensor& g) {
    const at::Tensor logits = rows.logits(at, count), own = g.narrow(0, at, count).unsqueeze(1);
    at::Tensor d = at::sub(logits, norms.narrow(0, at, count).unsqueeze(1)).exp_().mul_(own).neg_();
    d.scatter_add_(1, rows.targets.narrow(0, at, count).unsqueeze(1), own);
    if (rows.softcap == 0) return d;
    const at::Tensor share = logits.div(rows.softcap);
    return d.mul_(at::mul(share, share).neg_().add_(1));
  }
};

}  // namespace

at::Tensor token_log_probs(const at::Tensor& x, const LogitHead& head, const at::Tensor& targets) {
  const auto maybe = [](const at::Tensor& t) { return t.defined() ? Maybe(t) : std::nullopt; };
  return TokenLogProbs::apply(x, head.weight, maybe(head.addition.low), maybe(head.addition.up), targets, head.softcap,
                              head.owner);
}

}  // namespace ft::ops
