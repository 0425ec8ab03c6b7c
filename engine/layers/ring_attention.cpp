#include "engine/layers/ring_attention.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <utility>

#include "engine/layers/attention_slices.h"
#include "engine/layers/device_op.h"
#include "engine/layers/op_signatures.h"

namespace ft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Whose keys and values a rank holds after `step` steps: they go to the next rank in each.
int64_t source_at(const SequenceSplit& split, int64_t step) { return (split.index + split.size - step) % split.size; }

std::vector<int64_t> slices_at(const RingMask& mask, int64_t step) {
  return AttentionSlice::pack(slices_between(mask.documents, mask.split, source_at(mask.split, step), mask.window));
}

struct Merged {
  at::Tensor out;  // fp32 [B, T, H, D]
  at::Tensor lse;  // fp32 [B, H, T]: logarithms of the softmax sums over all keys
};

Merged run_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const RingMask& mask,
                   ProcessGroup& group) {
  static const DeviceOp<signature::AttentionPart> part("ft::attention_part");
  const auto fp32 = q.options().dtype(at::kFloat);
  Merged merged{at::zeros(q.sizes(), fp32),
                at::full({q.size(0), q.size(2), q.size(1)}, -std::numeric_limits<double>::infinity(), fp32)};
  at::Tensor here = at::stack({k, v}), coming = at::empty_like(here);
  for (int64_t step = 0; step < mask.split.size; ++step) {
    Pending moving = step + 1 < mask.split.size ? group.pass_on(coming, here) : Pending();
    part(merged.out, merged.lse, q, here[0], here[1], slices_at(mask, step));
    moving.wait();
    std::swap(here, coming);
  }
  return merged;
}

// Gradients of keys and values are those of whoever's are at hand: after the last step one more brings them home.
struct Gradients {
  at::Tensor q, kv;  // fp32 [B, T, H, D], [2, B, T, Hkv, D]
};

Gradients run_backward(const at::Tensor& grad, const variable_list& saved, const RingMask& mask, ProcessGroup& group) {
  static const DeviceOp<signature::AttentionPartBackward> part("ft::attention_part_backward");
  const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &lse = saved[4];
  const auto fp32 = q.options().dtype(at::kFloat);
  at::Tensor here = at::stack({k, v}), coming = at::empty_like(here), gq = at::zeros(q.sizes(), fp32);
  at::Tensor own = at::zeros(here.sizes(), fp32), sent = at::empty_like(own), arriving = at::empty_like(own);
  Pending arrival;
  for (int64_t step = 0; step < mask.split.size; ++step) {
    Pending moving = step + 1 < mask.split.size ? group.pass_on(coming, here) : Pending();
    if (step > 0) own.zero_();
    part(gq, own[0], own[1], grad, q, here[0], here[1], out, lse, slices_at(mask, step));
    moving.wait();
    std::swap(here, coming);
    if (step > 0) {
      arrival.wait();  // what the ranks before have found, while this one computed
      own.add_(arriving);
    }
    std::swap(own, sent);
    arrival = group.pass_on(arriving, sent);
  }
  arrival.wait();
  return {gq, arriving};
}

// What the backward is told beside tensors.
struct Ring : torch::CustomClassHolder {
  Ring(RingMask of, ProcessGroup* ranks) : mask(std::move(of)), group(ranks) {}
  RingMask mask;
  ProcessGroup* group;  // outlives the graph: the model holds it
};

struct RingAttention : Function<RingAttention> {
  static at::Tensor forward(AutogradContext* node, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const RingMask& mask, ProcessGroup* group) {
    const Merged merged = run_forward(q, k, v, mask, *group);
    const at::Tensor out = merged.out.to(q.scalar_type());
    node->save_for_backward({q, k, v, out, merged.lse});
    node->saved_data["ring"] = c10::IValue::make_capsule(c10::make_intrusive<Ring>(mask, group));
    return out;
  }
  static variable_list backward(AutogradContext* node, const variable_list& grads) {
    const auto ring = c10::static_intrusive_pointer_cast<Ring>(node->saved_data["ring"].toCapsule());
    const variable_list saved = node->get_saved_variables();
    const Gradients found = run_backward(grads[0], saved, ring->mask, *ring->group);
    const auto dtype = saved[0].scalar_type();
    return {found.q.to(dtype), found.kv[0].to(dtype), found.kv[1].to(dtype), {}, {}};
  }
};

}  // namespace

at::Tensor ring_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const RingMask& mask,
                          ProcessGroup& group) {
  return RingAttention::apply(q, k, v, mask, &group);
}

}  // namespace ft
