#include "engine/layers/attention.h"

#include <vector>

#include "engine/error/error.h"
#include "engine/layers/module.h"
#include "engine/layers/ops.h"
#include "engine/layers/ring_attention.h"
#include "engine/layers/soft_capped_attention.h"
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
                  const ScoreOptions& options) {
  const auto whole_rows = [&](const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
    const auto documents = in_one_list(context.documents);
    return options.softcap > 0
               ? soft_capped_attention(queries, keys, values, documents, options.window, options.softcap)
               : ops::attention(queries, keys, values, documents, options.window);
  };
  if (!context.split.split()) return whole_rows(q, k, v);
  FT_CHECK(context.axis.group != nullptr && context.axis.group->size() == context.split.size &&
               q.size(1) == 2 * context.split.chunk(),
           "attention: rows are split, so there is a context group of as many ranks");
  if (context.axis.method == ContextAxis::Method::ring) {
    if (options.softcap > 0)
      throw Error(ErrorKind::config, "ring attention cannot cap scores, which this model asks for")
          .key("parallel.context_method")
          .help("write context_method = \"ulysses\"");
    return ring_attention(q, k, v, {context.documents, context.split, options.window}, *context.axis.group);
  }
  const Ulysses exchange(context.split, *context.axis.group);
  const auto whole = exchange.to_heads(q, k, v);
  return exchange.to_tokens(whole_rows(whole.q, whole.k, whole.v));
}

}  // namespace ft
