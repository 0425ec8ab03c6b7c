#include "engine/layers/experts.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/error/error.h"
#include "engine/layers/compute.h"
#include "engine/layers/tensor_axis.h"

namespace ft {
namespace {

/// Tokens of each expert. Of a tensor without values: as if all experts were equally busy.
std::vector<int64_t> on_host(const at::Tensor& counts, int64_t total) {
  const auto experts = static_cast<size_t>(counts.size(0));
  std::vector<int64_t> made(experts);
  if (counts.is_meta()) {
    for (size_t e = 0; e < experts; ++e)
      made[e] = total / counts.size(0) + (static_cast<int64_t>(e) < total % counts.size(0) ? 1 : 0);
    return made;
  }
  const at::Tensor host = counts.to(at::kCPU);
  std::copy_n(host.const_data_ptr<int64_t>(), experts, made.begin());
  return made;
}

}  // namespace

Experts::Experts(Builder& builder, const Value& description, const std::string& parent)
    : Module(module_path(parent, description.at("name").as_string())),
      chosen_(description.at("chosen").as_integer()),
      normalize_(description.get("normalize", false)) {
  builder.tensor().require([](int64_t ranks) { return ranks == 1; }, 1, "experts", name());
  const Value::List& blocks = description.at("experts").as_list();
  const auto count = static_cast<int64_t>(blocks.size());
  if (chosen_ < 1 || chosen_ > count)
    throw Error(ErrorKind::config, "got " + std::to_string(chosen_) + " experts a token, want 1 to " +
                                       std::to_string(count) + ", as many as there are")
        .key(name());
  router_ = &add_parameter(module_path(name(), description.at("router").as_string()) + ".weight",
                           {count, description.at("dim").as_integer()}, builder.base_storage(),
                           {Init::Kind::normal, description.get("init_std", 0.02)});
  for (const Value& block : blocks) experts_.push_back(&add_child(builder.block(block, name())));
  check_adapters(builder, blocks.back());
  if (const double coefficient = description.get("balance", 0.0); coefficient != 0) {
    balance_ = builder.balance(coefficient);
    place_ = balance_->add_layer();
  }
}

/// Refuses adapters on experts that PEFT cannot load: it keeps a layer's experts in two tensors, gate and up in one,
/// and converts adapters of single matrices to them (peft/utils/transformers_weight_conversion.py, ParamWrapper).
void Experts::check_adapters(const Builder& builder, const Value& block) const {
  const std::vector<std::string>& paths = builder.adapted();
  const auto count = [&](const std::string& under) {
    return std::count_if(paths.begin(), paths.end(), [&](const auto& path) { return path.starts_with(under + "."); });
  };
  int64_t adapted = 0;
  for (const Module* expert : experts_) adapted += count(expert->name());
  if (adapted == 0) return;
  const auto refuse = [&](const std::string& what, const char* key, const char* help) {
    throw Error(ErrorKind::config, what + " on the experts of " + name() + " is nothing that PEFT loads")
        .key(std::string("adapter.") + key)
        .help(std::string(help) + ", or leave the experts out: exclude_modules = \".*experts.*\"");
  };
  const LoraOptions& lora = *builder.options().lora;
  if (lora.dropout != 0) refuse("dropout", "dropout", "write dropout = 0");
  if (lora.use_dora) refuse("DoRA", "use_dora", "leave use_dora out");
  if (lora.lora_bias) refuse("a bias of lora_B", "lora_bias", "leave lora_bias out");
  const auto rank = static_cast<double>(lora.r);
  const double scale = lora.alpha / (lora.use_rslora ? std::sqrt(rank) : rank);
  for (const std::string& path : paths) {
    const LoraShape shape = builder.lora_shape(path);
    if (path.starts_with(name() + ".") && (shape.r != lora.r || shape.scale != scale))
      refuse("another rank or scale than the adapter's", "rank_pattern", "let it and alpha_pattern name other modules");
  }
  if (adapted != count(experts_.back()->name()) * static_cast<int64_t>(experts_.size()))
    refuse("LoRA on some and not on others", "target_modules", "name the matrices of all, such as down_proj");
  const auto has = [&](const char* key) {
    const Value* linear = block.find(key);
    if (!linear) return false;
    const std::string path = module_path(experts_.back()->name(), linear->at("name").as_string());
    return std::find(paths.begin(), paths.end(), path) != paths.end();
  };
  // PEFT doubles rank and alpha of the joined tensor, which keeps alpha / r alone.
  if (has("gate") && lora.use_rslora)
    refuse("rank-stabilized scaling of gate and up", "use_rslora", "leave use_rslora out, or name down alone");
  if (has("gate") != has("up"))
    refuse("LoRA on one of gate and up, which are one tensor there,", "target_modules", "name both");
  if (has("gate") && !has("down"))
    refuse("LoRA on gate and up without down", "target_modules", "name all three, or down alone");
}

void check_names_of_experts(const std::vector<std::string>& adapted) {
  const auto last = [](const std::string& path) { return path.substr(path.rfind('.') + 1); };
  std::set<std::string> names;
  for (const std::string& path : adapted)
    if (path.find(".experts.") != std::string::npos) names.insert(last(path));
  for (const std::string& path : adapted)
    if (path.find(".experts.") == std::string::npos && names.contains(last(path)))
      throw Error(ErrorKind::config, "LoRA on " + path +
                                         " and on experts' matrices of that name is nothing that PEFT " +
                                         "loads: it takes the name for the experts' alone")
          .key("adapter.target_modules")
          .help("adapt either: exclude_modules = \".*experts.*\", or exclude_modules = { \"" + path +
                "\" } and its like");
}

Experts::Routed Experts::route(const at::Tensor& rows) const {
  check_gathered(router_->value, name());
  const at::Tensor logits = at::matmul(in_dtype(rows, at::kFloat), in_dtype(router_->value, at::kFloat).t());
  const at::Tensor probabilities = at::softmax(logits, -1);
  auto [weights, experts] = at::topk(probabilities, chosen_, -1);
  if (normalize_) weights = weights.div(weights.sum(-1, /*keepdim=*/true));
  const at::Tensor flat = experts.flatten();
  const at::Tensor counts =
      at::zeros({static_cast<int64_t>(experts_.size())}, flat.options()).scatter_add_(0, flat, at::ones_like(flat));
  if (balance_) {
    balance_->note(place_, counts, probabilities);
    if (probabilities.requires_grad())
      probabilities.register_hook([balance = balance_](const at::Tensor& grad) {
        return balance->grad().defined() ? grad.add(balance->grad()) : grad;
      });
  }
  return {experts, weights, on_host(counts, flat.size(0))};
}

at::Tensor Experts::forward(const at::Tensor& x, const Context& context) {
  const int64_t dim = x.size(-1);
  const at::Tensor rows = x.reshape({-1, dim});
  const Routed routed = route(rows);
  const int64_t places = rows.size(0) * chosen_;
  const at::Tensor order = at::argsort(routed.experts.flatten(), /*stable=*/true);
  const at::Tensor back = at::empty_like(order).scatter_(0, order, at::arange(places, order.options()));
  // A copy for each choice, so that every row is taken once: gradients are then added in a fixed order on GPUs too.
  const at::Tensor copies = rows.unsqueeze(1).expand({rows.size(0), chosen_, dim}).reshape({places, dim});
  const at::Tensor sorted = copies.index_select(0, order);
  std::vector<at::Tensor> made;
  int64_t begin = 0;
  for (size_t e = 0; e < experts_.size(); ++e) {
    const int64_t tokens = routed.per_expert[e];
    if (tokens == 0) continue;
    made.push_back(experts_[e]->forward(sorted.narrow(0, begin, tokens), context));
    begin += tokens;
  }
  const at::Tensor by_token = at::cat(made).index_select(0, back).view({rows.size(0), chosen_, dim});
  const at::Tensor weighted = at::mul(in_dtype(by_token, at::kFloat), routed.weights.unsqueeze(-1));
  return in_dtype(weighted.sum(1), x.scalar_type()).view(x.sizes());
}

}  // namespace ft
