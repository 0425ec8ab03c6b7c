/// Autograd nodes of the ops without a weight matrix. Forward and backward go through the dispatcher to the device's
/// kernels.
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/mul.h>
#include <torch/csrc/autograd/custom_function.h>

#include "engine/layers/compute.h"
#include "engine/layers/device_op.h"
#include "engine/layers/op_signatures.h"
#include "engine/layers/ops.h"

namespace ft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct RmsNorm : Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& x, const at::Tensor& weight, double eps,
                            const std::string& owner) {
    static const DeviceOp<signature::RmsNormForward> op("ft::rms_norm_forward");
    check_gathered(weight, owner);
    auto [y, rstd] = op(x, weight, eps);
    node->save_for_backward({x, weight, rstd});
    node->saved_data["owner"] = owner;
    return y;
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    static const DeviceOp<signature::RmsNormBackward> op("ft::rms_norm_backward");
    const auto saved = node->get_saved_variables();
    check_gathered(saved[1], node->saved_data["owner"].toStringView());
    auto [gx, gw] = op(grads[0], saved[0], saved[1], saved[2], node->needs_input_grad(0), node->needs_input_grad(1));
    return {gx, gw, {}, {}};
  }
};

struct Rope : Function<Rope> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                            const at::Tensor& positions) {
    node->save_for_backward({cos, sin, positions});
    return rotate(x, cos, sin, positions, false);
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    const auto saved = node->get_saved_variables();
    return {rotate(grads[0], saved[0], saved[1], saved[2], true), {}, {}, {}};
  }
  static at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                           const at::Tensor& positions, bool inverse) {
    static const DeviceOp<signature::RopeForward> op("ft::rope_forward");
    return op(x, cos, sin, positions, inverse);
  }
};

struct Swiglu : Function<Swiglu> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& gate, const at::Tensor& up) {
    static const DeviceOp<signature::SwigluForward> op("ft::swiglu_forward");
    node->save_for_backward({gate, up});
    return op(gate, up);
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    static const DeviceOp<signature::SwigluBackward> op("ft::swiglu_backward");
    const auto saved = node->get_saved_variables();
    auto [ggate, gup] = op(grads[0], saved[0], saved[1]);
    return {ggate, gup};
  }
};

struct Attention : Function<Attention> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<int64_t>& documents, int64_t window) {
    static const DeviceOp<signature::AttentionForward> op("ft::attention_forward");
    auto [out, lse] = op(q, k, v, documents, window);
    node->save_for_backward({q, k, v, out, lse});
    node->saved_data["documents"] = documents;
    node->saved_data["window"] = window;
    return out;
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    static const DeviceOp<signature::AttentionBackward> op("ft::attention_backward");
    const auto s = node->get_saved_variables();
    auto [gq, gk, gv] = op(grads[0], s[0], s[1], s[2], s[3], s[4], node->saved_data["documents"].toIntVector(),
                           node->saved_data["window"].toInt());
    return {gq, gk, gv, {}, {}};
  }
};

struct CounterDropout : Function<CounterDropout> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& x, const at::Tensor& keys, double p) {
    node->save_for_backward({keys});
    node->saved_data["p"] = p;
    return drop(x, keys, p);
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    return {drop(grads[0], node->get_saved_variables()[0], node->saved_data["p"].toDouble()), {}, {}};
  }
  static at::Tensor drop(const at::Tensor& x, const at::Tensor& keys, double p) {
    static const DeviceOp<signature::DropoutForward> op("ft::dropout_forward");
    return op(x, keys, p);
  }
};

struct Embedding : Function<Embedding> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& weight, const at::Tensor& tokens,
                            at::ScalarType dtype, const std::string& owner) {
    check_gathered(weight, owner);
    node->save_for_backward({tokens});
    node->saved_data["rows"] = weight.size(0);
    auto shape = tokens.sizes().vec();
    shape.push_back(weight.size(1));
    return weight.index_select(0, tokens.reshape({-1})).to(dtype).view(shape);
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    const at::Tensor tokens = node->get_saved_variables()[0].reshape({-1});
    // The rows that were looked up, as a sparse tensor: a dense one would be written and read as a whole, and few of
    // its rows are not zero. Whoever adds it to fp32 gradients sums in fp32: a frequent token may have thousands of
    // terms.
    if (!grads[0].is_cuda())
      return {at::_sparse_coo_tensor_unsafe(tokens.unsqueeze(0), grads[0].reshape({-1, grads[0].size(-1)}),
                                            {node->saved_data["rows"].toInt(), grads[0].size(-1)}),
              {},
              {},
              {}};
    return {at::embedding_dense_backward(grads[0].to(at::kFloat), node->get_saved_variables()[0],
                                         node->saved_data["rows"].toInt(), /*padding_idx=*/-1,
                                         /*scale_grad_by_freq=*/false),
            {},
            {},
            {}};
  }
};

struct LossFacts {
  double scale;
  bool want_x, want_weight;
};

struct LinearCrossEntropy : Function<LinearCrossEntropy> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& targets, const std::optional<at::Tensor>& low,
                            const std::optional<at::Tensor>& up, const LossFacts& facts, const std::string& owner) {
    static const DeviceOp<signature::LinearCrossEntropyForward> op("ft::linear_cross_entropy_forward");
    check_gathered(weight, owner);
    if (up) check_gathered(*up, owner);
    auto [loss, gx, gw, glow, gup] = op(x, weight, targets, low, up, facts.scale, facts.want_x, facts.want_weight);
    node->save_for_backward({gx, gw, glow, gup});
    return loss;
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    auto saved = node->get_saved_variables();
    // The loss is nearly always the end of the graph, its gradient 1, and the multiplication left out.
    const bool is_one = grads[0].is_meta() || (grads[0].is_cpu() && grads[0].item<double>() == 1);
    const auto scaled = [&](const at::Tensor& g) {
      return !g.defined() || is_one ? g : g.mul(grads[0]).to(g.scalar_type());
    };
    return {scaled(saved[0]), scaled(saved[1]), {}, scaled(saved[2]), scaled(saved[3]), {}, {}};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, const std::string& owner) {
  return RmsNorm::apply(x, weight, eps, owner);
}

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, const at::Tensor& positions) {
  return Rope::apply(x, cos, sin, positions);
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) { return Swiglu::apply(gate, up); }

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::IntArrayRef documents,
                     int64_t window) {
  return Attention::apply(q, k, v, documents.vec(), window);
}

at::Tensor counter_dropout(const at::Tensor& x, const at::Tensor& keys, double p) {
  return CounterDropout::apply(x, keys, p);
}

at::Tensor embedding(const at::Tensor& weight, const at::Tensor& tokens, at::ScalarType dtype,
                     const std::string& owner) {
  return Embedding::apply(weight, tokens, dtype, owner);
}

at::Tensor linear_cross_entropy(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, double scale,
                                const std::string& owner, const LowRank& addition) {
  const bool graph = at::GradMode::is_enabled();
  const bool adapted = addition.low.defined();
  const LossFacts facts{scale, graph && (x.requires_grad() || adapted), graph && weight.requires_grad()};
  std::optional<at::Tensor> low, up;
  if (adapted) low = addition.low, up = addition.up;
  return LinearCrossEntropy::apply(x, weight, targets, low, up, facts, owner);
}

}  // namespace ft::ops
