#include "engine/layers/soft_capped_attention.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/layers/attention_slices.h"

namespace ft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

constexpr int64_t kScoreBytes = int64_t{32} << 20;  // fp32 scores that exist at a time, and two tensors like them

// [B, H, n, D] -> [B, Hkv, group · n, D]: all queries that look at one key-value head.
at::Tensor by_key_head(const at::Tensor& q, int64_t kv_heads) {
  return q.reshape({q.size(0), kv_heads, q.size(1) / kv_heads * q.size(2), q.size(3)});
}

struct Scores {
  at::Tensor bend;  // fp32 [B, Hkv, group · n, keys]: tanh(score / cap)
  at::Tensor p;     // its softmax over the keys that are seen
};

// @param q as by_key_head gives it   @param k [B, Hkv, keys, D]   @param seen bool [B or 1, 1, n, keys]
Scores scores_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& seen, double cap) {
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  Scores s;
  s.bend = at::matmul(q, k.transpose(-1, -2)).to(at::kFloat).mul_(scale / cap).tanh_();
  const at::Tensor capped = s.bend.mul(cap);
  if (seen.defined()) {
    const int64_t queries = seen.size(2), keys = seen.size(3);
    capped.view({q.size(0), q.size(1), -1, queries, keys})
        .masked_fill_(seen.logical_not().unsqueeze(2), -std::numeric_limits<double>::infinity());
  }
  s.p = at::softmax(capped, -1);
  return s;
}

// A stretch of a slice's queries with the keys that any of them may see.
struct Piece {
  int64_t row, rows, query, queries, key, keys;
  at::Tensor seen;  // bool [1, 1, queries, keys]; undefined where tensors have no values

  at::Tensor of_queries(const at::Tensor& x) const {  // [B, T, H, D] -> [rows, H, queries, D]
    return x.narrow(0, row, rows).narrow(1, query, queries).transpose(1, 2);
  }
  at::Tensor of_keys(const at::Tensor& x) const { return x.narrow(0, row, rows).narrow(1, key, keys).transpose(1, 2); }
};

// @param first the place of the first query, counted from the first key
at::Tensor seen_by(int64_t first, int64_t queries, int64_t keys, int64_t window, const at::TensorOptions& options) {
  const at::Tensor age =
      at::arange(first, first + queries, options).unsqueeze(1).sub(at::arange(keys, options)).unsqueeze(0).unsqueeze(0);
  return window > 0 ? age.ge(0).logical_and(age.lt(window)) : age.ge(0);
}

std::vector<Piece> pieces_of(const at::Tensor& q, at::IntArrayRef documents, int64_t window) {
  std::vector<Piece> pieces;
  const auto on_device = q.options().dtype(at::kLong);
  for (const AttentionSlice& s : document_slices(q.size(0), q.size(1), documents, window)) {
    const int64_t bytes_a_query = s.rows * q.size(2) * s.keys * int64_t{sizeof(float)};
    const int64_t step = std::max<int64_t>(1, kScoreBytes / bytes_a_query);
    for (int64_t begin = 0; begin < s.queries; begin += step) {
      const int64_t queries = std::min(step, s.queries - begin);
      const int64_t keys = std::min(s.keys, s.ahead + begin + queries);
      pieces.push_back({s.row, s.rows, s.query + begin, queries, s.key, keys,
                        q.is_meta() ? at::Tensor() : seen_by(s.ahead + begin, queries, keys, s.window, on_device)});
    }
  }
  return pieces;
}

at::Tensor fp32_zeros(const at::Tensor& like) { return at::zeros(like.sizes(), like.options().dtype(at::kFloat)); }

struct SoftCapped : Function<SoftCapped> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<int64_t>& documents, int64_t window, double cap) {
    node->save_for_backward({q, k, v});
    node->saved_data["documents"] = documents;
    node->saved_data["window"] = window;
    node->saved_data["cap"] = cap;
    at::Tensor out = at::empty_like(q);
    for (const Piece& piece : pieces_of(q, documents, window))
      piece.of_queries(out).copy_(
          soft_capped_rows(piece.of_queries(q), piece.of_keys(k), piece.of_keys(v), piece.seen, cap));
    return out;
  }

  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    const auto saved = node->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const double cap = node->saved_data["cap"].toDouble(), scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
    // A key is seen by several pieces: sums in fp32. A query belongs to one.
    at::Tensor gq = at::empty_like(q), gk = fp32_zeros(k), gv = fp32_zeros(v);
    const auto documents = node->saved_data["documents"].toIntVector();
    for (const Piece& piece : pieces_of(q, documents, node->saved_data["window"].toInt())) {
      const at::Tensor own_q = by_key_head(piece.of_queries(q), k.size(2)), own_k = piece.of_keys(k);
      const at::Tensor g = by_key_head(piece.of_queries(grads[0]), k.size(2));
      const Scores s = scores_of(own_q, own_k, piece.seen, cap);
      piece.of_keys(gv).add_(at::matmul(s.p.to(g.scalar_type()).transpose(-1, -2), g));
      const at::Tensor gp = at::matmul(g, piece.of_keys(v).transpose(-1, -2)).to(at::kFloat);
      // Through softmax, then tanh, whose slope is 1 - tanh².
      at::Tensor gs = gp.sub_(gp.mul(s.p).sum(-1, /*keepdim=*/true)).mul_(s.p);
      gs = gs.mul_(s.bend.square().neg_().add_(1)).mul_(scale).to(q.scalar_type());
      piece.of_queries(gq).copy_(at::matmul(gs, own_k).view(piece.of_queries(q).sizes()));
      piece.of_keys(gk).add_(at::matmul(gs.transpose(-1, -2), own_q));
    }
    return {gq, gk.to(k.scalar_type()), gv.to(v.scalar_type()), {}, {}, {}};
  }
};

}  // namespace

at::Tensor soft_capped_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 at::IntArrayRef documents, int64_t window, double cap) {
  return SoftCapped::apply(q, k, v, documents.vec(), window, cap);
}

at::Tensor soft_capped_rows(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& seen,
                            double cap) {
  const Scores s = scores_of(by_key_head(q, k.size(1)), k, seen, cap);
  return at::matmul(s.p.to(v.scalar_type()), v).view(q.sizes());
}

}  // namespace ft
