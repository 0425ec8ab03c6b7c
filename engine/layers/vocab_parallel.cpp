#include "engine/layers/vocab_parallel.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "engine/error/error.h"
#include "engine/parallel/add_in_pieces.h"

namespace ft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

constexpr int64_t kLogitBytes = int64_t{64} << 20;  // as linear_cross_entropy on one rank

void check_ids(const at::Tensor& ids, int64_t vocab, const char* what) {
  if (ids.numel() == 0 || ids.is_meta()) return;
  const auto least = ids.min().item<int64_t>(), most = ids.max().item<int64_t>();
  if (least < 0 || most >= vocab)
    throw Error(ErrorKind::shape, std::string("got ") + what + " " + std::to_string(least < 0 ? least : most) +
                                      ", want an id below " + std::to_string(vocab));
}

// Places of the tokens that have a target; where tensors have no values, all of them.
at::Tensor targeted(const at::Tensor& targets) {
  if (targets.is_meta()) return at::arange(targets.numel(), targets.options());
  return at::nonzero(targets.ne(-100)).squeeze(1);
}

// fp64 [n] of fp32 [n, V]. On a CPU in pieces: LibTorch would copy the whole in fp64.
at::Tensor row_sums(const at::Tensor& x) {
  constexpr int64_t kElements = int64_t{1} << 18;
  const int64_t rows = x.size(0), piece = x.is_cpu() ? std::max<int64_t>(1, kElements / x.size(1)) : rows;
  at::Tensor sums = at::empty({rows}, x.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < rows; begin += piece) {
    const int64_t count = std::min(piece, rows - begin);
    sums.narrow(0, begin, count).copy_(x.narrow(0, begin, count).sum(1, /*keepdim=*/false, at::kDouble));
  }
  return sums;
}

// What the ranks' logits of a chunk of tokens come to. All [n], the same on every rank, but own and place.
struct Softmax {
  at::Tensor p;      // fp32 [n, V/size], exp(logit - top), then its share of the softmax
  at::Tensor nll;    // fp64
  at::Tensor own;    // bool: the target is among this rank's rows
  at::Tensor place;  // int64: which row it is there, else 0
  at::Tensor slope;  // fp32 [n, V/size]: of capped logits over logits; undefined where none are capped
};

Softmax softmax(const at::Tensor& logits, const at::Tensor& target, const TensorAxis& axis, double cap) {
  const int64_t rows = logits.size(1);
  Softmax s;
  const at::Tensor local = target.sub(axis.rank * rows);
  s.own = local.ge(0).bitwise_and_(local.lt(rows));
  s.place = local.mul(s.own);
  s.p = logits.to(at::kFloat);
  if (cap > 0) {
    s.p.div_(cap).tanh_();
    s.slope = s.p.square().neg_().add_(1);
    s.p.mul_(cap);
  }
  const at::Tensor top = s.p.amax(1);
  if (axis.split()) axis.group->all_reduce_max(top).wait();
  const at::Tensor picked = s.p.gather(1, s.place.unsqueeze(1)).squeeze(1).sub(top).to(at::kDouble).mul_(s.own);
  s.p.sub_(top.unsqueeze(1)).exp_();  // in the place of fp32 logits, which nobody reads again
  const at::Tensor both = at::stack({row_sums(s.p), picked});
  if (axis.split()) axis.group->all_reduce_sum(both).wait();
  s.nll = both[0].log().sub_(both[1]);
  s.p.div_(both[0].to(at::kFloat).unsqueeze(1));
  return s;
}

// scale · (softmax - one at the target) · slope, in place.
void to_gradient(Softmax& s, double scale) {
  s.p.scatter_add_(1, s.place.unsqueeze(1), s.own.to(at::kFloat).neg_().unsqueeze(1));
  s.p.mul_(scale);
  if (s.slope.defined()) s.p.mul_(s.slope);
}

struct LossFacts {
  LossOptions options;
  bool want_x, want_weight;
};

struct CrossEntropy : Function<CrossEntropy> {
  using Maybe = std::optional<at::Tensor>;

  static at::Tensor forward(AutogradContext* node, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& targets, const Maybe& low, const Maybe& up, const LossFacts& facts,
                            const TensorAxis& axis) {
    const at::Tensor tokens = x.reshape({-1, x.size(-1)}), w = weight.to(x.scalar_type());
    const at::Tensor flat = targets.reshape({-1}).to(x.device());
    const at::Tensor rows = targeted(flat), target = flat.index_select(0, rows);
    check_ids(target, weight.size(0) * axis.size, "target");
    at::Tensor gx, gw, glow, gup, lows, b;
    if (low) lows = low->reshape({-1, low->size(-1)}), b = up->to(x.scalar_type());
    if (facts.want_x) gx = at::zeros_like(tokens);
    if (low && facts.want_x) glow = at::zeros_like(lows), gup = at::zeros(up->sizes(), up->options().dtype(at::kFloat));
    if (facts.want_weight) gw = at::zeros(weight.sizes(), weight.options().dtype(at::kFloat));

    const int64_t chunk = std::max<int64_t>(1, kLogitBytes / (weight.size(0) * int64_t{sizeof(float)}));
    at::Tensor total = at::zeros({}, x.options().dtype(at::kDouble));
    for (int64_t begin = 0; begin < rows.numel(); begin += chunk) {
      const int64_t size = std::min(chunk, rows.numel() - begin);
      const at::Tensor index = rows.narrow(0, begin, size), part = tokens.index_select(0, index);
      at::Tensor logits = at::mm(part, w.t()), low_part;
      if (low) logits.addmm_(low_part = lows.index_select(0, index), b.t());
      Softmax s = softmax(logits, target.narrow(0, begin, size), axis, facts.options.softcap);
      total.add_(s.nll.sum());
      if (!facts.want_x && !facts.want_weight) continue;
      to_gradient(s, facts.options.scale);
      const at::Tensor g = s.p.to(x.scalar_type());
      if (facts.want_x) gx.index_copy_(0, index, at::mm(g, w));
      if (facts.want_weight) add_in_pieces(gw.view({-1}), at::mm(g.t(), part).view({-1}));
      if (glow.defined()) glow.index_copy_(0, index, at::mm(g, b)), gup.add_(at::mm(g.t(), low_part));
    }
    if (gx.defined()) gx = gx.view(x.sizes());
    if (glow.defined()) glow = glow.view(low->sizes());
    node->save_for_backward({gx, gw, glow, gup});
    return total.mul_(facts.options.scale).to(at::kFloat);
  }

  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    const auto saved = node->get_saved_variables();
    const bool is_one = grads[0].is_meta() || (grads[0].is_cpu() && grads[0].item<double>() == 1);  // nearly always
    const auto scaled = [&](const at::Tensor& g) {
      return !g.defined() || is_one ? g : g.mul(grads[0]).to(g.scalar_type());
    };
    return {scaled(saved[0]), scaled(saved[1]), {}, scaled(saved[2]), scaled(saved[3]), {}, {}};
  }
};

}  // namespace

at::Tensor vocab_parallel_cross_entropy(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets,
                                        const LossOptions& options, const ops::LowRank& addition,
                                        const TensorAxis& axis) {
  const bool graph = at::GradMode::is_enabled(), adapted = addition.low.defined();
  const LossFacts facts{options, graph && (x.requires_grad() || adapted), graph && weight.requires_grad()};
  std::optional<at::Tensor> low, up;
  if (adapted) low = addition.low, up = addition.up;
  return CrossEntropy::apply(x, weight, targets, low, up, facts, axis);
}

at::Tensor vocab_parallel_embedding(const at::Tensor& weight, const at::Tensor& tokens, at::ScalarType dtype,
                                    const std::string& owner, const TensorAxis& axis) {
  const int64_t rows = weight.size(0);
  check_ids(tokens, rows * axis.size, "token");
  const at::Tensor local = tokens.sub(axis.rank * rows);
  const at::Tensor own = local.ge(0).bitwise_and_(local.lt(rows));
  return at::mul(ops::embedding(weight, local.mul(own), dtype, owner), own.unsqueeze(-1));
}

}  // namespace ft
