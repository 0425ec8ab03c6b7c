#include "engine/layers/attention.h"

#include <vector>

#include "engine/error/error.h"
#include "engine/layers/module.h"
#include "engine/layers/ops.h"
#include "engine/layers/ring_attention.h"
#include "engine/layers/ulysses.h"

namespace ft {
namespace {

std::vector<int64_t> in_one_list(const std::vector<std::vector<int64_t>>& documents) {
  std::vector<int64_t> all;
  for (const auto& row : documents) all.insert(all.end(), row.begin(), row.end());
  return all;
}

}  // namespace

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Context& context,
                  int64_t window) {
  if (!context.split.split()) return ops::attention(q, k, v, in_one_list(context.documents), window);
  FT_CHECK(context.axis.group != nullptr && context.axis.group->size() == context.split.size &&
               q.size(1) == 2 * context.split.chunk(),
           "attention: rows are split, so there is a context group of as many ranks");
  if (context.axis.method == ContextAxis::Method::ring)
    return ring_attention(q, k, v, {context.documents, context.split, window}, *context.axis.group);
  const Ulysses exchange(context.split, *context.axis.group);
  const auto whole = exchange.to_heads(q, k, v);
  return exchange.to_tokens(ops::attention(whole.q, whole.k, whole.v, in_one_list(context.documents), window));
}

}  // namespace ft
