#pragma once
/// Which modules get LoRA, of which rank and scale, and which are trained whole, as PEFT reads target_modules,
/// exclude_modules, layers_to_transform, rank_pattern, alpha_pattern and modules_to_save (peft.tuners.tuners_utils,
/// check_target_module_exists). Made once for a model or a merge; one thread.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/formats/lora_options.h"
#include "engine/formats/module_pattern.h"

namespace ft {

/// LoRA on one module: the update is scale · B·A with A of r rows.
struct LoraShape {
  int64_t r = 0;
  double scale = 1;
};

class LoraTargets {
 public:
  /// @throws Error(config) for a pattern that does not compile, or a value of another kind, naming the key.
  explicit LoraTargets(const LoraOptions& options);

  /// @param in_layers "all-linear" means those of the decoder layers.
  bool match(const std::string& module_path, bool in_layers) const;
  /// @throws Error(config) where two entries of a pattern map match the module and differ: which of them holds depends
  /// on an order that tables do not keep.
  LoraShape shape(const std::string& module_path) const;
  /// Whether modules_to_save names the module that the parameter belongs to, or one around it.
  bool saves(const std::string& parameter) const;
  /// The names in modules_to_save.
  const std::vector<std::string>& saved() const { return saved_; }
  /// Whether a parameter belongs to the module of this name, or to one inside it.
  static bool within(const std::string& parameter, const std::string& module);

 private:
  /// Names or a pattern, as target_modules takes them.
  struct Choice {
    std::optional<ModulePattern> pattern{};
    std::vector<std::string> names{};
    bool match(const std::string& path) const;
  };
  using PatternMap = std::vector<std::pair<ModulePattern, double>>;
  static Choice choice(const Value& wanted, const std::string& key);
  static PatternMap pattern_map(const Value& wanted, const std::string& key);
  bool in_chosen_layer(const std::string& path) const;

  bool all_linear_ = false, use_rslora_ = false;
  int64_t r_ = 0;
  double alpha_ = 0;
  Choice targets_, excluded_;
  std::vector<std::string> saved_;
  PatternMap ranks_, alphas_;
  std::vector<int64_t> layers_;        // empty: all
  std::vector<std::string> layer_in_;  // empty: any list of layers
};

}  // namespace ft
