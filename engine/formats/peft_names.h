#pragma once
/// What PEFT calls parameters, while its wrappers are around the model and in the files that it writes. Used by
/// whatever reads adapters and other engines' checkpoints.

#include <optional>
#include <string>
#include <string_view>

namespace ft {

/// What a tensor's name in a file of PEFT's has before the parameter's.
inline constexpr std::string_view kPeftPrefix = "base_model.model.";

/// A parameter's name in the base from the one that PEFT's wrappers give it, while the adapter's name ("default") is in
/// it: base_model.model.X.base_layer.weight -> X.weight, base_model.model.X.lora_A.default.weight -> X.lora_A.weight.
std::string plain_name(std::string name);

/// "….up_proj.lora_A.weight", "….lora_magnitude_vector" and the like.
bool is_lora_name(std::string_view name);

/// Whether it is the untrained copy that PEFT keeps beside a module of modules_to_save.
bool is_original_module(std::string_view name);

}  // namespace ft
