#pragma once
/// What an adapter adds to each tensor of its base: LoRA's matrices, DoRA's magnitudes, lora_B's biases, by the names
/// that PEFT gives them beside the module's. Used by the inputs of merge; one thread.

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "engine/formats/lora_targets.h"
#include "engine/formats/peft_names.h"
#include "engine/merge/merge_input.h"

namespace ft {

/// A matrix of so many columns, row by row, as columns by rows.
std::vector<float> transposed(const std::vector<float>& matrix, int64_t columns);

class LoraTerms {
 public:
  /// Shape of an adapter's tensor, or nullptr.
  using Find = std::function<const std::vector<int64_t>*(const std::string& name)>;
  /// @param config adapter_config.json   @throws Error(config) for what the engine does not do
  LoraTerms(const Value& config, Find find);

  /// Says in `tensor` what is folded into it, if anything.   @throws Error(format) where a matrix has no partner,
  /// Error(shape) where they do not fit the tensor or the configuration.
  void fold_into(MergeTensor& tensor);
  /// Names that found their tensor.
  const std::set<std::string>& used() const { return used_; }

 private:
  void fold_weight(MergeTensor& tensor, const std::string& module);
  void fold_bias(MergeTensor& tensor, const std::string& module);
  const std::vector<int64_t>* take(const std::string& name);

  bool dora_ = false;
  LoraTargets targets_;
  Find find_;
  std::set<std::string> used_;
};

}  // namespace ft
