#pragma once
/// Which linears get LoRA, as PEFT reads target_modules: "all-linear", a regular expression for the whole module path,
/// or a list of names that the path ends in.

#include <memory>
#include <string>

#include "engine/schema/value.h"

namespace ft {

class LoraTargets {
 public:
  /// @throws Error(config) for a pattern that does not compile, or a value of another kind.
  explicit LoraTargets(const Value& target_modules);
  ~LoraTargets();

  /// @param in_layers "all-linear" means those of the decoder layers.
  bool match(const std::string& module_path, bool in_layers) const;

 private:
  struct Pattern;
  Value wanted_;
  std::unique_ptr<Pattern> pattern_;
};

}  // namespace ft
