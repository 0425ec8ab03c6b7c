#pragma once
/// A mixture of experts (Shazeer et al., 2017, as Mixtral and Qwen3-MoE have it): a router chooses some of many
/// feed-forward blocks for each token. Tokens are sorted by expert, so that each matrix is multiplied once, with all
/// tokens that chose it. Experts are blocks like any other: their matrices are quantized, adapted, sharded and merged
/// one by one, under the names that they have on disk. Choices depend on the input alone: a layer that is run again
/// chooses alike.

#include <memory>
#include <vector>

#include "engine/layers/builder.h"
#include "engine/layers/router_balance.h"

namespace ft {

/// Σ over the chosen experts e of p_e(x) · expert_e(x), p the softmax of the router's logits.
class Experts : public Module {
 public:
  /// @param description keys name, dim, router (the name of its matrix [experts, dim], which is never quantized or
  /// adapted), chosen (experts a token), normalize (what a token's chosen probabilities add up to becomes 1), balance
  /// (coefficient of the auxiliary loss, 0: none), init_std (0.02), experts (a list of blocks)
  Experts(Builder& builder, const Value& description, const std::string& parent);
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  struct Routed {
    at::Tensor experts;               // [N, chosen] int64
    at::Tensor weights;               // [N, chosen] fp32
    std::vector<int64_t> per_expert;  // tokens of each
  };
  Routed route(const at::Tensor& rows) const;
  void check_adapters(const Builder& builder, const Value& block) const;

  int64_t chosen_;
  bool normalize_;
  Parameter* router_ = nullptr;
  std::vector<Module*> experts_;
  std::shared_ptr<RouterBalance> balance_;  // null without an auxiliary loss
  size_t place_ = 0;                        // among the layers that it adds up
};

/// Refuses adapters on experts and on a dense layer's matrices of the same name: in target_modules PEFT takes the name
/// for the experts'.   @param adapted paths of all modules that got LoRA   @throws Error(config)
void check_names_of_experts(const std::vector<std::string>& adapted);

}  // namespace ft
