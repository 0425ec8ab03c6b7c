#pragma once
/// The module tree: what a model is made of. A module owns its parameters and children in a fixed order, the same on
/// every rank, and computes a forward from them; it never knows how they are sharded. Built from a description (a Value
/// that stdlib/ft/models/*.lua states), which allocates nothing. Thread rule: forward runs on the thread that walks the
/// schedule, never on one of autograd's.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/sequence_split.h"
#include "engine/layers/context_axis.h"
#include "engine/parallel/parameter.h"

namespace ft {

class KvCache;

/// What a forward may need beside its input. B: rows of the micro batch, T: tokens a row.
struct Context {
  at::Tensor positions;  ///< [B, T] int64, restarting at 0 in every document
  /// For each row the lengths of its documents in order; their sum is T (padding counts as one more document), or the
  /// split's length where rows are split. Attention is causal inside a document and never crosses into another.
  std::vector<std::vector<int64_t>> documents;
  /// [B, T] int64: the token that follows, -100 where there is nothing to learn; undefined: logits wanted.
  at::Tensor targets;
  at::Tensor last;        ///< [B] int64: logits of this token of each row alone ([B, 1, V]); undefined: of all
  double loss_scale = 1;  ///< the head returns loss_scale · Σ nll over the targets
  bool training = false;  ///< dropout acts
  uint64_t seed = 0;      ///< dropout's key: (seed, step, row, position in the row, feature, module name)
  int64_t step = 0;
  std::vector<int64_t> rows;  ///< [B] global index of each row in its epoch
  bool adapter = true;        ///< false: as the base is, without LoRA
  bool log_probs = false;     ///< the head returns each target's log-probability, [B, T], instead of the loss
  KvCache* cache = nullptr;   ///< generation: attention appends to it and reads from it
  SequenceSplit split;        ///< which of each row's tokens these are: all of them, but under context parallelism
  ContextAxis axis;           ///< where rows are split: the ranks that hold the rest
};

class Module {
 public:
  explicit Module(std::string name) : name_(std::move(name)) {}
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// @param x embedding: [B, T] int64 tokens; others: [B, T, D] in the compute dtype, or under tensor parallelism this
  /// rank's share of the tokens, [1, n, D] (tensor_axis.h).
  /// @return as x; the head: a scalar fp32 loss, or logits [B, T, V] fp32 without targets.
  virtual at::Tensor forward(const at::Tensor& x, const Context& context) = 0;

  const std::string& name() const { return name_; }
  /// This module's parameters and those of its children, in tree order.
  std::vector<Parameter*> parameters();

 protected:
  /// @param shape of this rank's slice, where the tensor group shares the parameter
  Parameter& add_parameter(std::string name, std::vector<int64_t> shape, Storage storage, const Init& init,
                           const TensorSlice& slice = {});
  template <class M>
  M& add_child(std::unique_ptr<M> child) {
    M& added = *child;
    order_.push_back({nullptr, std::move(child)});
    return added;
  }

 private:
  struct Node {
    std::unique_ptr<Parameter> parameter;
    std::unique_ptr<Module> child;
  };
  std::string name_;
  std::vector<Node> order_;
};

}  // namespace ft
