#include "engine/layers/kv_cache.h"

#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

#include "engine/error/error.h"
#include "engine/layers/soft_capped_attention.h"

namespace ft {
namespace {

at::Tensor heads_first(const at::Tensor& x) { return x.transpose(1, 2); }

// 0 for what is seen, -inf for the rest.
at::Tensor mask(const at::Tensor& seen, at::ScalarType dtype) {
  return at::where(seen, at::scalar_tensor(0, dtype),
                   at::scalar_tensor(-std::numeric_limits<double>::infinity(), dtype));
}

}  // namespace

at::Tensor KvCache::attend(const std::string& layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const ScoreOptions& options) {
  const int64_t window = options.window;
  const int64_t rows = q.size(0), tokens = q.size(1);
  FT_CHECK(rows == static_cast<int64_t>(lengths_.size()), layer + ": the cache has another number of rows");
  Layer& entry = layers_[layer];
  if (!entry.k.defined()) {
    // Zeros, since what is masked must still be finite.
    entry.k = at::zeros({rows, capacity_, k.size(2), k.size(3)}, k.options());
    entry.v = at::zeros({rows, capacity_, v.size(2), v.size(3)}, v.options());
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t begin = lengths_[static_cast<size_t>(row)], count = std::min(tokens, capacity_ - begin);
    if (count <= 0) continue;  // a row that is done and full: its tokens count no more
    entry.k.select(0, row).narrow(0, begin, count).copy_(k.select(0, row).narrow(0, 0, count));
    entry.v.select(0, row).narrow(0, begin, count).copy_(v.select(0, row).narrow(0, 0, count));
  }
  const int64_t longest = *std::max_element(lengths_.begin(), lengths_.end());
  const int64_t keys = std::min(capacity_, longest + tokens);
  if (options.softcap > 0)
    return soft_capped_rows(heads_first(q), heads_first(entry.k.narrow(1, 0, keys)),
                            heads_first(entry.v.narrow(1, 0, keys)), seen(tokens, keys, window).to(q.device()),
                            options.softcap)
        .transpose(1, 2);
  const bool causal = longest == 0 && (window == 0 || tokens <= window);  // nothing else is masked
  at::Tensor out;
  if (q.is_meta()) {  // a plan's: what is made beside the result is small on a CPU and on a GPU
    return at::empty_like(q);
  } else if (!q.is_cpu()) {
    const std::optional<at::Tensor> masked =
        causal ? std::nullopt : std::optional(mask(seen(tokens, keys, window), q.scalar_type()).to(q.device()));
    out = at::scaled_dot_product_attention(heads_first(q), heads_first(causal ? k : entry.k.narrow(1, 0, keys)),
                                           heads_first(causal ? v : entry.v.narrow(1, 0, keys)), masked, 0.0,
                                           /*is_causal=*/causal, std::nullopt, /*enable_gqa=*/true);
  } else if (causal) {
    out = std::get<0>(
        at::_scaled_dot_product_flash_attention_for_cpu(heads_first(q), heads_first(k), heads_first(v), 0.0, true));
  } else {
    out = std::get<0>(at::_scaled_dot_product_flash_attention_for_cpu(
        heads_first(q), heads_first(entry.k.narrow(1, 0, keys)), heads_first(entry.v.narrow(1, 0, keys)), 0.0, false,
        mask(seen(tokens, keys, window), q.scalar_type())));
  }
  return out.transpose(1, 2);
}

// bool [B, 1, T, keys]: the keys up to the query's own position in its row, from its window on.
at::Tensor KvCache::seen(int64_t tokens, int64_t keys, int64_t window) const {
  const at::Tensor last = next_positions(tokens).view({-1, 1, tokens, 1});
  const at::Tensor key = at::arange(keys, at::kLong).view({1, 1, 1, keys});
  at::Tensor allowed = key.le(last);
  if (window > 0) allowed = allowed.logical_and(key.gt(last.sub(window)));
  return allowed;
}

at::Tensor KvCache::next_positions(int64_t tokens) const {
  const at::Tensor lengths =
      at::from_blob(const_cast<int64_t*>(lengths_.data()), {static_cast<int64_t>(lengths_.size()), 1}, at::kLong);
  return lengths.add(at::arange(tokens, at::kLong).unsqueeze(0));
}

void KvCache::advance(const std::vector<int64_t>& counts) {
  FT_CHECK(counts.size() == lengths_.size(), "advance: a count a row");
  for (size_t row = 0; row < counts.size(); ++row) {
    lengths_[row] += counts[row];
    if (lengths_[row] > capacity_)
      throw Error(ErrorKind::shape, "row " + std::to_string(row) + " has " + std::to_string(lengths_[row]) +
                                        " tokens, want at most " + std::to_string(capacity_))
          .key("generation");
  }
}

}  // namespace ft
