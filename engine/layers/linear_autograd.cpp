/// The one autograd node of every linear layer: dense or NF4 weight, with or without bias, LoRA and DoRA.
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sub.h>
#include <torch/csrc/autograd/custom_function.h>

#include "engine/error/error.h"
#include "engine/layers/compute.h"
#include "engine/layers/device_op.h"
#include "engine/layers/dora.h"
#include "engine/layers/op_signatures.h"
#include "engine/layers/ops.h"

namespace ft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// What forward and backward share beside tensors.
struct LinearFacts {
  bool nf4 = false, double_quant = true, has_bias = false;
  int64_t out = 0, in = 0;
  double nested_offset = 0, scale = 1, dropout_p = 0;
};

// [out, in] in the compute dtype; a temporary unless the weight is stored so.
at::Tensor dense(const at::Tensor& weight, const LinearFacts& facts, at::ScalarType dtype) {
  static const DeviceOp<signature::Nf4Dequantize> op("ft::nf4_dequantize");
  if (!facts.nf4) return in_dtype(weight, dtype);
  return op(weight, facts.out, facts.in, facts.nested_offset, facts.double_quant, dtype);
}

at::Tensor drop(const at::Tensor& x, const at::Tensor& keys, double p) {
  static const DeviceOp<signature::DropoutForward> op("ft::dropout_forward");
  return keys.defined() ? op(x, keys, p) : x;
}

std::optional<at::Tensor> if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

struct Linear : Function<Linear> {
  using Maybe = std::optional<at::Tensor>;

  static at::Tensor forward(AutogradContext* node, const at::Tensor& x, const at::Tensor& weight, const Maybe& bias_in,
                            const Maybe& a_in, const Maybe& b_in, const Maybe& magnitude_in, const Maybe& keys_in,
                            const LinearFacts& facts, const std::string& owner) {
    const at::Tensor bias = bias_in.value_or(at::Tensor()), a = a_in.value_or(at::Tensor());
    const at::Tensor b = b_in.value_or(at::Tensor()), keys = keys_in.value_or(at::Tensor());
    const at::Tensor magnitude = magnitude_in.value_or(at::Tensor());
    for (const at::Tensor* t : {&weight, &bias, &a, &b, &magnitude}) check_gathered(*t, owner);
    const at::ScalarType dtype = x.scalar_type();
    const at::Tensor rows = x.reshape({-1, facts.in});
    const at::Tensor dropped = a.defined() ? drop(rows, keys, facts.dropout_p) : rows;
    at::Tensor y, h, norm, undropped;
    {
      const at::Tensor w = dense(weight, facts, dtype);
      const bool adds_bias = bias.defined() && !magnitude.defined();
      y = adds_bias ? at::addmm(in_dtype(bias, dtype), rows, w.t()) : at::mm(rows, w.t());
      if (magnitude.defined()) norm = ft::row_norms(w, a, b, facts.scale);
      if (magnitude.defined() && keys.defined()) {
        const at::Tensor of_dropped = at::mm(dropped, w.t());
        undropped = at::sub(y, of_dropped);
        y = of_dropped;
      }
    }
    if (a.defined()) {
      h = at::mm(dropped, in_dtype(a, dtype).t());
      y.addmm_(h, in_dtype(b, dtype).t(), 1, facts.scale);
    }
    Magnified magnified;
    if (magnitude.defined()) {
      magnified = magnify(undropped, y, magnitude, norm);
      y = bias.defined() ? magnified.y.add_(in_dtype(bias, dtype)) : magnified.y;
    }
    const bool keeps_x = weight.requires_grad() || (a.defined() && a.requires_grad());
    node->save_for_backward(
        {keeps_x ? x : at::Tensor(), weight, a, b, h, keys, magnified.adapted, magnified.factor, magnified.norm});
    node->saved_data["owner"] = owner;
    node->saved_data["facts"] =
        std::vector<int64_t>{facts.nf4, facts.double_quant, facts.has_bias, facts.out, facts.in};
    node->saved_data["numbers"] = std::vector<double>{facts.nested_offset, facts.scale, facts.dropout_p};
    auto shape = x.sizes().vec();
    shape.back() = facts.out;
    return y.view(shape);
  }

  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    const auto saved = node->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &a = saved[2], &b = saved[3], &h = saved[4], &keys = saved[5];
    const at::Tensor& factor = saved[7];
    for (const at::Tensor* t : {&weight, &a, &b}) check_gathered(*t, node->saved_data["owner"].toStringView());
    const LinearFacts facts = facts_of(node);
    // Edges exist only for the tensors that were given.
    size_t edge = 0;
    const auto wants = [&](bool given) { return given && node->needs_input_grad(edge++); };
    const bool want_x = wants(true), want_w = wants(true), want_bias = wants(facts.has_bias);
    const bool want_a = wants(a.defined()), want_b = wants(b.defined()), want_m = wants(factor.defined());
    const at::Tensor gout = grads[0].reshape({-1, facts.out});
    const at::ScalarType dtype = gout.scalar_type();
    // gy: of what x' makes, W and LoRA together; without DoRA that is the output.
    const at::Tensor gy = factor.defined() ? in_dtype(at::mul(gout, factor), dtype) : gout;
    const bool apart = factor.defined() && keys.defined();  // x·Wᵀ and x'·Wᵀ are two products
    at::Tensor gx, gw, gbias, ga, gb, gm, gh;
    const at::Tensor rows = x.defined() ? x.reshape({-1, facts.in}) : x;
    if (want_w) gw = at::mm((apart ? gout : gy).t(), rows);
    if (want_w && apart) gw.addmm_(at::sub(gy, gout).t(), drop(rows, keys, facts.dropout_p));
    if (want_bias) gbias = gout.sum(0, /*keepdim=*/false, at::kFloat);
    if (want_m) gm = magnitude_grad(gout, saved[6], saved[8]);
    if (a.defined() && (want_x || want_a)) gh = at::mm(gy, in_dtype(b, dtype)).mul_(facts.scale);
    if (want_a) ga = at::mm(gh.t(), drop(rows, keys, facts.dropout_p));
    if (want_b) gb = at::mm(gy.t(), h).mul_(facts.scale);
    if (want_x) {
      at::Tensor of_dropped;
      {
        const at::Tensor w = dense(weight, facts, dtype);
        gx = at::mm(apart ? gout : gy, w);
        if (apart) of_dropped = at::mm(at::sub(gy, gout), w);
      }
      if (a.defined()) add_lora_input_grad(gx, gh, in_dtype(a, dtype), of_dropped, {keys, facts.dropout_p});
      auto shape = grads[0].sizes().vec();
      shape.back() = facts.in;
      gx = gx.view(shape);
    }
    return {gx, gw, gbias, ga, gb, gm, {}, {}, {}};
  }

  struct Dropout {
    const at::Tensor& keys;
    double p;
  };
  /// @param of_dropped what else comes back to the input after dropout; undefined: nothing
  static void add_lora_input_grad(at::Tensor& gx, const at::Tensor& gh, const at::Tensor& a,
                                  const at::Tensor& of_dropped, const Dropout& dropout) {
    static const DeviceOp<signature::DropoutAdd> op("ft::dropout_add");
    if (dropout.keys.defined()) {
      op(gx, of_dropped.defined() ? at::addmm(of_dropped, gh, a) : at::mm(gh, a), dropout.keys, dropout.p);
    } else {
      gx.addmm_(gh, a);
    }
  }

  static LinearFacts facts_of(AutogradContext* node) {
    const auto ints = node->saved_data["facts"].toIntVector();
    const auto numbers = node->saved_data["numbers"].toDoubleVector();
    return {ints[0] != 0, ints[1] != 0, ints[2] != 0, ints[3], ints[4], numbers[0], numbers[1], numbers[2]};
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, const BaseWeight& weight, const at::Tensor& bias, const LoraTerm& lora,
                  const std::string& owner) {
  LinearFacts facts{.nf4 = weight.nf4,
                    .double_quant = weight.double_quant,
                    .has_bias = bias.defined(),
                    .out = weight.nf4 ? weight.out_features : weight.value.size(0),
                    .in = x.size(-1),
                    .nested_offset = weight.nested_offset,
                    .scale = lora.scale,
                    .dropout_p = lora.dropout_p};
  const auto mismatch = [&](const std::string& what) {
    return Error(ErrorKind::shape, "got x's last dim " + std::to_string(facts.in) + ", " + what)
        .key(owner.empty() ? "ft::linear" : owner);
  };
  if (!weight.nf4 && weight.value.size(1) != facts.in)
    throw mismatch("weight wants last dim " + std::to_string(weight.value.size(1)));
  if (lora.a.defined() &&
      (lora.a.size(1) != facts.in || lora.b.size(0) != facts.out || lora.a.size(0) != lora.b.size(1)))
    throw mismatch("lora_A and lora_B do not fit it");
  return Linear::apply(x, weight.value, if_defined(bias), if_defined(lora.a), if_defined(lora.b),
                       if_defined(lora.magnitude), if_defined(lora.dropout_keys), facts, owner);
}

at::Tensor row_norms(const BaseWeight& weight, at::IntArrayRef shape, const LoraTerm& lora) {
  const LinearFacts facts{.nf4 = weight.nf4,
                          .double_quant = weight.double_quant,
                          .out = shape[0],
                          .in = shape[1],
                          .nested_offset = weight.nested_offset};
  return ft::row_norms(dense(weight.value, facts, at::kFloat), lora.a, lora.b, lora.scale);
}

}  // namespace ft::ops
