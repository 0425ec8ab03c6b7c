#include "engine/formats/lora_targets.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr const char* kHelp =
    "write \"all-linear\", a regular expression for the whole module path, or a list of names such as { \"q_proj\", "
    "\"v_proj\" }";

bool ends_in_module(const std::string& path, const std::string& name) {
  return path == name ||
         (path.size() > name.size() && path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
}

std::vector<std::string> names_of(const Value& wanted, const std::string& key) {
  std::vector<std::string> names;
  if (wanted.is_null()) return names;
  if (wanted.is_string()) return {wanted.as_string()};
  bool strings = wanted.is_list() && !wanted.as_list().empty();
  if (strings)
    for (const Value& name : wanted.as_list()) strings = strings && name.is_string();
  if (!strings)
    throw Error(ErrorKind::config, "got " + describe(wanted) + ", want a string or a list of names")
        .key("adapter." + key)
        .help(kHelp);
  for (const Value& name : wanted.as_list()) names.push_back(name.as_string());
  return names;
}

std::vector<std::string> parts_of(const std::string& path) {
  std::vector<std::string> parts(1);
  for (const char c : path)
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

}  // namespace

bool LoraTargets::Choice::match(const std::string& path) const {
  if (pattern) return pattern->match(path);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return ends_in_module(path, name); });
}

LoraTargets::Choice LoraTargets::choice(const Value& wanted, const std::string& key) {
  Choice made;
  if (!wanted.is_string()) {
    made.names = names_of(wanted, key);
    return made;
  }
  try {
    made.pattern.emplace(wanted.as_string(), ModulePattern::Ends::at_end, "adapter." + key);
  } catch (Error& error) {
    throw error.help(kHelp);
  }
  return made;
}

// PEFT searches "(.*\.)?(key)$" from the path's start.
LoraTargets::PatternMap LoraTargets::pattern_map(const Value& wanted, const std::string& key) {
  PatternMap made;
  if (wanted.is_null()) return made;
  if (!wanted.is_map())
    throw Error(ErrorKind::config, "got " + describe(wanted) + ", want a map from patterns to numbers")
        .key("adapter." + key);
  for (const auto& [pattern, value] : wanted.as_map()) {
    if (!value.is_number() || value.as_number() <= 0)
      throw Error(ErrorKind::config, "got " + describe(value) + ", want a number above 0")
          .key("adapter." + key + "." + pattern);
    made.emplace_back(ModulePattern("(?:.*\\.)?(?:" + pattern + ")", ModulePattern::Ends::at_end, "adapter." + key),
                      value.as_number());
  }
  return made;
}

LoraTargets::LoraTargets(const LoraOptions& options)
    : all_linear_(options.target_modules == Value("all-linear")),
      use_rslora_(options.use_rslora),
      r_(options.r),
      alpha_(options.alpha),
      saved_(names_of(options.modules_to_save, "modules_to_save")),
      ranks_(pattern_map(options.rank_pattern, "rank_pattern")),
      alphas_(pattern_map(options.alpha_pattern, "alpha_pattern")),
      layer_in_(names_of(options.layers_pattern, "layers_pattern")) {
  if (!all_linear_) targets_ = choice(options.target_modules, "target_modules");
  if (!options.exclude_modules.is_null()) excluded_ = choice(options.exclude_modules, "exclude_modules");
  const Value& layers = options.layers_to_transform;
  if (layers.is_list())
    for (const Value& layer : layers.as_list()) layers_.push_back(layer.as_integer());
  else if (!layers.is_null())
    layers_.push_back(layers.as_integer());
  if (!layers_.empty() && targets_.pattern)
    throw Error(ErrorKind::config, "does not go with a regular expression in target_modules")
        .key("adapter.layers_to_transform")
        .help("say the layers in the expression, or name the modules in a list");
  if (!layer_in_.empty() && layers_.empty())
    throw Error(ErrorKind::config, "says which list the layers are counted in, and none are named")
        .key("adapter.layers_pattern")
        .help("add layers_to_transform");
}

// The first number in the path counts layers; experts inside have numbers of their own.
bool LoraTargets::in_chosen_layer(const std::string& path) const {
  const std::vector<std::string> parts = parts_of(path);
  for (size_t i = 1; i + 1 < parts.size(); ++i) {
    int64_t index = 0;
    const char *begin = parts[i].data(), *end = begin + parts[i].size();
    if (std::from_chars(begin, end, index).ptr != end || parts[i].empty()) continue;
    if (!layer_in_.empty() && std::find(layer_in_.begin(), layer_in_.end(), parts[i - 1]) == layer_in_.end()) continue;
    return std::find(layers_.begin(), layers_.end(), index) != layers_.end();
  }
  return false;
}

bool LoraTargets::match(const std::string& path, bool in_layers) const {
  if (saves(path + ".") || excluded_.match(path)) return false;
  if (!(all_linear_ ? in_layers : targets_.match(path))) return false;
  // PEFT asks for no layer where a name is the module's whole path: "lm_head" is one.
  const std::vector<std::string>& names = targets_.names;
  if (std::find(names.begin(), names.end(), path) != names.end()) return true;
  return layers_.empty() || in_chosen_layer(path);
}

LoraShape LoraTargets::shape(const std::string& path) const {
  const auto own = [&](const PatternMap& map, double otherwise, const char* key) {
    std::optional<double> found;
    for (const auto& [pattern, value] : map) {
      if (!pattern.match(path)) continue;
      if (found && *found != value)
        throw Error(ErrorKind::config, "two of its patterns match " + path + ", and say different numbers")
            .key("adapter." + std::string(key))
            .help("write patterns of which one fits each module");
      found = value;
    }
    return found.value_or(otherwise);
  };
  const double r = own(ranks_, static_cast<double>(r_), "rank_pattern");
  if (r < 1 || r != std::floor(r))
    throw Error(ErrorKind::config, "got " + describe(Value(r)) + " for " + path + ", want a whole number from 1 on")
        .key("adapter.r");
  const double alpha = own(alphas_, alpha_, "alpha_pattern");
  return {static_cast<int64_t>(r), alpha / (use_rslora_ ? std::sqrt(r) : r)};
}

bool LoraTargets::saves(const std::string& parameter) const {
  return std::any_of(saved_.begin(), saved_.end(),
                     [&](const std::string& module) { return within(parameter, module); });
}

// PEFT takes every module whose path ends in the name, "input_layernorm" for "norm" too
// (peft.utils.other._set_trainable).
bool LoraTargets::within(const std::string& parameter, const std::string& module) {
  return parameter.find(module + ".") != std::string::npos;
}

}  // namespace ft
