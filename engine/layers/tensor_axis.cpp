#include "engine/layers/tensor_axis.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "engine/error/error.h"

namespace ft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

constexpr const char* kKey = "parallel.tensor_parallel_size";

int64_t share_of(int64_t tokens, int64_t ranks) { return (tokens + ranks - 1) / ranks; }

at::Tensor gathered(const at::Tensor& x, ProcessGroup& group, int64_t rows, int64_t tokens) {
  const at::Tensor mine = x.contiguous();
  const int64_t width = x.size(-1);
  const at::Tensor whole = at::empty({group.size() * mine.numel()}, mine.options());
  group.all_gather_into(whole, mine.view({-1})).wait();
  return whole.narrow(0, 0, rows * tokens * width).view({rows, tokens, width});
}

at::Tensor summed(const at::Tensor& x, ProcessGroup& group) {
  const int64_t width = x.size(-1), tokens = x.numel() / width, share = share_of(tokens, group.size());
  at::Tensor whole = x.reshape({-1}).to(at::kFloat).contiguous();
  if (share * group.size() != tokens)
    whole = at::cat({whole, at::zeros({(share * group.size() - tokens) * width}, whole.options())});
  const at::Tensor mine = at::empty({share * width}, whole.options());
  group.reduce_scatter_sum(mine, whole).wait();
  return mine.view({1, share, width}).to(x.scalar_type());
}

// The group outlives the graph: the model holds it.
int64_t as_number(ProcessGroup* group) { return reinterpret_cast<int64_t>(group); }
ProcessGroup& group_of(AutogradContext* node) {
  return *reinterpret_cast<ProcessGroup*>(node->saved_data["group"].toInt());
}

struct Gather : Function<Gather> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& x, ProcessGroup* group, int64_t rows,
                            int64_t tokens) {
    node->saved_data["group"] = as_number(group);
    return gathered(x, *group, rows, tokens);
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    return {summed(grads[0], group_of(node)), {}, {}, {}};
  }
};

struct SumAndScatter : Function<SumAndScatter> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& x, ProcessGroup* group) {
    node->saved_data["group"] = as_number(group);
    node->saved_data["rows"] = x.size(0);
    node->saved_data["tokens"] = x.size(1);
    return summed(x, *group);
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    return {gathered(grads[0], group_of(node), node->saved_data["rows"].toInt(), node->saved_data["tokens"].toInt()),
            {}};
  }
};

}  // namespace

int64_t TensorAxis::share(int64_t whole, const char* what, const std::string& module) const {
  require([whole](int64_t ranks) { return whole % ranks == 0; }, whole, std::to_string(whole) + " " + what, module);
  return whole / size;
}

void TensorAxis::refuse(const std::string& what, const std::string& module, const std::string& sizes) const {
  throw Error(ErrorKind::config, module + ": " + what + " cannot be shared out evenly over " + std::to_string(size) +
                                     " tensor-parallel ranks")
      .key(kKey)
      .help((sizes.empty() ? std::string("no size fits") : "these sizes fit here: " + sizes) +
            "; parallel.mesh.shard splits any shape");
}

at::Tensor gather_tokens(const at::Tensor& x, const TensorAxis& axis, int64_t rows, int64_t tokens) {
  return axis.split() ? Gather::apply(x, axis.group, rows, tokens) : x;
}

at::Tensor sum_and_scatter_tokens(const at::Tensor& x, const TensorAxis& axis) {
  return axis.split() ? SumAndScatter::apply(x, axis.group) : x;
}

at::Tensor own_tokens(const at::Tensor& whole, const TensorAxis& axis) {
  if (!axis.split()) return whole;
  const int64_t tokens = whole.numel(), share = share_of(tokens, axis.size);
  at::Tensor padded = whole.reshape({-1});
  if (share * axis.size != tokens) padded = at::cat({padded, at::zeros({share * axis.size - tokens}, whole.options())});
  return padded.narrow(0, axis.rank * share, share).view({1, share});
}

at::Tensor gather_features(const at::Tensor& x, const TensorAxis& axis) {
  if (!axis.split()) return x;
  const at::Tensor mine = x.contiguous();
  auto shape = x.sizes().vec();
  const at::Tensor whole = at::empty({axis.size * mine.numel()}, mine.options());
  axis.group->all_gather_into(whole, mine.view({-1})).wait();
  shape.insert(shape.begin(), axis.size);
  const at::Tensor apart = whole.view(shape);
  std::vector<at::Tensor> features;
  for (int64_t rank = 0; rank < axis.size; ++rank) features.push_back(apart[rank]);
  return at::cat(features, -1);
}

}  // namespace ft
