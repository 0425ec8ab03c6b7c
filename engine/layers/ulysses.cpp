#include "engine/layers/ulysses.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/custom_function.h>

#include <string>
#include <vector>

#include "engine/error/error.h"

namespace ft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// [ranks, ..]: what goes to each rank becomes what came from each; so do the gradients, back.
struct AllToAll : Function<AllToAll> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& parts, ProcessGroup* group) {
    node->saved_data["group"] = reinterpret_cast<int64_t>(group);  // outlives the graph: the model holds it
    return exchange(parts, *group);
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    return {exchange(grads[0], *reinterpret_cast<ProcessGroup*>(node->saved_data["group"].toInt())), {}};
  }
  static at::Tensor exchange(const at::Tensor& parts, ProcessGroup& group) {
    const at::Tensor sent = parts.contiguous(), received = at::empty_like(sent);
    group.all_to_all(received, sent).wait();
    return received;
  }
};

// The heads that rank `rank` works on.
at::Tensor share(const at::Tensor& x, int64_t rank, int64_t ranks) {
  const int64_t heads = x.size(2);
  if (heads >= ranks) return x.narrow(2, rank * (heads / ranks), heads / ranks);
  return x.narrow(2, rank * heads / ranks, 1);
}

void check_heads(int64_t heads, int64_t kv_heads, int64_t ranks) {
  if (heads % ranks == 0 && (kv_heads % ranks == 0 || ranks % kv_heads == 0)) return;
  std::string fit;
  for (int64_t size = 2; size <= heads; ++size)
    if (heads % size == 0 && (kv_heads % size == 0 || size % kv_heads == 0))
      fit += (fit.empty() ? "" : ", ") + std::to_string(size);
  throw Error(ErrorKind::config, "ulysses shares heads out: got " + std::to_string(heads) + " heads and " +
                                     std::to_string(kv_heads) + " key-value heads on " + std::to_string(ranks) +
                                     " ranks")
      .key("parallel.context_parallel_size")
      .help((fit.empty() ? "no size fits" : "these fit: " + fit) + "; context_method = \"ring\" takes any");
}

}  // namespace

// [ranks, B, T, h, D], each rank's two chunks -> [B, length, h, D]
at::Tensor Ulysses::in_order(const at::Tensor& received) const {
  const int64_t chunk = split_.chunk();
  std::vector<at::Tensor> chunks(static_cast<size_t>(2 * split_.size));
  for (int64_t rank = 0; rank < split_.size; ++rank) {
    chunks[static_cast<size_t>(rank)] = received[rank].narrow(1, 0, chunk);
    chunks[static_cast<size_t>(2 * split_.size - 1 - rank)] = received[rank].narrow(1, chunk, chunk);
  }
  return at::cat(chunks, 1);
}

Ulysses::Heads Ulysses::to_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const {
  const int64_t ranks = split_.size;
  check_heads(q.size(2), k.size(2), ranks);
  std::vector<at::Tensor> parts;
  for (int64_t rank = 0; rank < ranks; ++rank)
    parts.push_back(at::cat({share(q, rank, ranks), share(k, rank, ranks), share(v, rank, ranks)}, 2));
  const at::Tensor whole = in_order(AllToAll::apply(at::stack(parts), group_));
  const int64_t own = q.size(2) / ranks, own_kv = (whole.size(2) - own) / 2;
  return {whole.narrow(2, 0, own), whole.narrow(2, own, own_kv), whole.narrow(2, own + own_kv, own_kv)};
}

at::Tensor Ulysses::to_tokens(const at::Tensor& x) const {
  const int64_t chunk = split_.chunk();
  std::vector<at::Tensor> parts;
  for (int64_t rank = 0; rank < split_.size; ++rank) {
    const SequenceSplit theirs = split_.of(rank);
    parts.push_back(at::cat({x.narrow(1, theirs.head(), chunk), x.narrow(1, theirs.tail(), chunk)}, 1));
  }
  const at::Tensor received = AllToAll::apply(at::stack(parts), group_);
  std::vector<at::Tensor> heads;
  for (int64_t rank = 0; rank < split_.size; ++rank) heads.push_back(received[rank]);
  return at::cat(heads, 2);
}

}  // namespace ft
