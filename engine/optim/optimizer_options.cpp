#include "engine/optim/optimizer_options.h"

#include <cmath>
#include <tuple>
#include <utility>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr std::pair<const char*, OptimizerKind> kKinds[] = {{"adamw", OptimizerKind::adamw},
                                                            {"sgd", OptimizerKind::sgd},
                                                            {"lion", OptimizerKind::lion},
                                                            {"adafactor", OptimizerKind::adafactor},
                                                            {"muon", OptimizerKind::muon}};

OptimizerKind kind_of(const Value& block) {
  const std::string name = block.get("kind", "");
  for (const auto& [known, kind] : kKinds)
    if (name == known) return kind;
  refuse_option(block, "kind", "one of 'adamw', 'sgd', 'lion', 'adafactor', 'muon'");
}

double at_least_0(const Value& block, const char* key, double fallback) {
  const double value = block.get(key, fallback);
  if (!(value >= 0 && std::isfinite(value))) refuse_option(block, key, "0 or more");
  return value;
}

double above_0(const Value& block, const char* key, double fallback) {
  const double value = block.get(key, fallback);
  if (!(value > 0 && std::isfinite(value))) refuse_option(block, key, "more than 0");
  return value;
}

// A share below 1: a decay of 1 would keep the first gradient for ever and divide by zero.
bool is_share(double value) { return value >= 0 && value < 1; }

double share(const Value& block, const char* key, double fallback) {
  const double value = block.get(key, fallback);
  if (!is_share(value)) refuse_option(block, key, "0 or more and below 1");
  return value;
}

/// Two numbers from a list, or the fallback where it is absent.
std::pair<double, double> pair_of(const Value& block, const char* key, std::pair<double, double> fallback) {
  const Value* list = block.find(key);
  if (!list || list->is_null()) return fallback;
  if (!list->is_list() || list->as_list().size() != 2 || !list->as_list()[0].is_number() ||
      !list->as_list()[1].is_number())
    refuse_option(block, key, "a list of two numbers");
  return {list->as_list()[0].as_number(), list->as_list()[1].as_number()};
}

std::pair<double, double> betas(const Value& block, const char* key, std::pair<double, double> fallback) {
  const auto both = pair_of(block, key, fallback);
  if (!is_share(both.first) || !is_share(both.second)) refuse_option(block, key, "two numbers from 0 to below 1");
  return both;
}

bool eight_bits(const Value& block) {
  const int64_t bits = block.get("bits", 32);
  if (bits != 32 && bits != 8) refuse_option(block, "bits", "32 or 8");
  return bits == 8;
}

AdafactorOptions adafactor_options(const Value& block) {
  AdafactorOptions options;
  const auto eps = pair_of(block, "eps", {options.eps_square, options.eps_scale});
  if (!(eps.first >= 0 && eps.second >= 0)) refuse_option(block, "eps", "two numbers of 0 or more");
  options.eps_square = eps.first;
  options.eps_scale = eps.second;
  options.clip_threshold = above_0(block, "clip_threshold", options.clip_threshold);
  options.decay_rate = block.get("decay_rate", options.decay_rate);
  if (!(options.decay_rate < 0 && options.decay_rate >= -1)) refuse_option(block, "decay_rate", "-1 to below 0");
  options.beta1 = share(block, "beta1", options.beta1);
  options.scale_parameter = block.get("scale_parameter", options.scale_parameter);
  return options;
}

MuonOptions muon_options(const Value& block, double lr) {
  MuonOptions options;
  options.momentum = share(block, "momentum", options.momentum);
  options.eps = above_0(block, "eps", options.eps);
  options.nesterov = block.get("nesterov", options.nesterov);
  options.ns_steps = block.get("ns_steps", options.ns_steps);
  if (options.ns_steps < 1 || options.ns_steps >= 100) refuse_option(block, "ns_steps", "1 to 99");
  const std::string adjust = block.get("adjust_lr_fn", "match_rms_adamw");
  if (adjust != "original" && adjust != "match_rms_adamw")
    refuse_option(block, "adjust_lr_fn", "'original' or 'match_rms_adamw'");
  options.match_rms_adamw = adjust == "match_rms_adamw";
  const Value* adamw_lr = block.find("adamw_lr");
  if (adamw_lr && !adamw_lr->is_null()) {
    if (!(lr > 0)) refuse_option(block, "lr", "more than 0");
    options.adamw_lr_scale = above_0(block, "adamw_lr", lr) / lr;
  }
  return options;
}

}  // namespace

void refuse_option(const Value& block, const std::string& key, const std::string& wanted, const std::string& path) {
  const Value* value = block.find(key);
  Error error(ErrorKind::config, "got " + (value ? describe(*value) : std::string("nothing")) + ", want " + wanted);
  error.key((path.empty() ? "optimizer" : path) + "." + key);
  const Origin& origin = value && value->origin.line ? value->origin : block.origin;
  if (origin.line) error.at(origin.str());
  throw error;
}

OptimizerOptions optimizer_options(const Value& block) {
  OptimizerOptions options;
  options.kind = kind_of(block);
  options.lr = block.get("lr", 0.0);
  const double usual_decay = options.kind == OptimizerKind::adamw  ? 0.01
                             : options.kind == OptimizerKind::muon ? 0.1
                                                                   : 0;
  options.weight_decay = at_least_0(block, "weight_decay", usual_decay);
  switch (options.kind) {
    case OptimizerKind::adamw: {
      std::tie(options.adamw.beta1, options.adamw.beta2) = betas(block, "betas", {0.9, 0.999});
      options.adamw.eps = above_0(block, "eps", options.adamw.eps);
      options.adamw.quantized = eight_bits(block);
      break;
    }
    case OptimizerKind::sgd:
      options.sgd.momentum = share(block, "momentum", 0);
      options.sgd.nesterov = block.get("nesterov", false);
      if (options.sgd.nesterov && options.sgd.momentum == 0)
        refuse_option(block, "momentum", "more than 0: nesterov is true");
      break;
    case OptimizerKind::lion:
      std::tie(options.lion.beta1, options.lion.beta2) = betas(block, "betas", {0.9, 0.99});
      break;
    case OptimizerKind::adafactor:
      options.adafactor = adafactor_options(block);
      break;
    case OptimizerKind::muon:
      options.muon = muon_options(block, options.lr);
      std::tie(options.adamw.beta1, options.adamw.beta2) = betas(block, "adamw_betas", {0.9, 0.95});
      options.adamw.eps = above_0(block, "adamw_eps", options.adamw.eps);
      options.adamw.quantized = eight_bits(block);
      break;
  }
  return options;
}

}  // namespace ft
