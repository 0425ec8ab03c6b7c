#pragma once
/// A linear layer: dense or NF4 weight, optional bias, optional LoRA or DoRA. One autograd node (ops::linear). Also the
/// head's weight, which the loss uses without calling forward. Under tensor parallelism a rank has some rows of the
/// weight, of lora_B and of the bias (by out), or some columns of the weight and of lora_A (by in).

#include "engine/layers/builder.h"
#include "engine/layers/ops.h"

namespace ft {

class Linear : public Module {
 public:
  /// @param description keys name, in, out, bias (false), init_std (0.02)
  Linear(Builder& builder, const Value& description, const std::string& parent);

  /// Whole: [.., in] -> [.., out], tokens as they come. By out: all tokens [B, T, in] -> [B, T, out/parts]. By in:
  /// [B, T, in/parts] -> this rank's tokens of the sum over ranks, [1, n, out]: collective.
  at::Tensor forward(const at::Tensor& x, const Context& context) override;
  Parameter& weight() { return *weight_; }
  bool has_bias() const { return bias_ != nullptr; }
  /// What LoRA adds to x·Wᵀ, for a caller that makes the product itself; nothing without LoRA.
  ops::LowRank low_rank(const at::Tensor& x, const Context& context) const;

 private:
  void add_weight(Builder& builder, const Init& init);
  void add_lora(Builder& builder, int64_t whole_in);
  void add_magnitude();
  ops::BaseWeight base() const {
    return {weight_->value, weight_->storage == Storage::nf4, out_, weight_->nested_offset, weight_->double_quant};
  }
  at::Tensor bias(const Context& context) const;
  TensorSlice slice_of(bool rows, bool columns) const;
  at::Tensor dropout_keys(const Context& context, at::Device device) const;

  int64_t in_, out_;  // of this rank's part
  LinearSplit split_;
  TensorAxis tensor_;
  double lora_scale_ = 1, lora_dropout_ = 0;
  Parameter* weight_ = nullptr;
  Parameter* bias_ = nullptr;
  Parameter* lora_a_ = nullptr;
  Parameter* lora_b_ = nullptr;
  Parameter* lora_bias_ = nullptr;
  Parameter* magnitude_ = nullptr;
};

/// Dropout's keys for a module, [B, T] int64: a hash of (seed, step, global row, position in the row, module).
at::Tensor token_keys(const Context& context, int64_t rows, int64_t tokens, const std::string& module);

/// The keys under which feature f falls or stays as feature first + f does under these: for a part of the features.
at::Tensor keys_from_feature(const at::Tensor& keys, int64_t first);

}  // namespace ft
