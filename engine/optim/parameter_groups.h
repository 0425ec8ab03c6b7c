#pragma once
/// Parameter groups by pattern: `optimizer.groups = { { pattern = "lora_B", lr = 1e-3, weight_decay = 0 }, … }`. Pure
/// functions of the block and the parameters' names, the same on every rank.

#include <string>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/optim/optimizer_options.h"

namespace ft {

/// Sets lr_scale and weight_decay of every piece: those of the first group whose pattern, a PCRE2 regular expression,
/// is found anywhere in the parameter's name. A group states lr, or lr_scale (times optimizer.lr), and weight_decay,
/// which then holds for vectors too; what it leaves out is as without a group.
/// @throws Error(config) for a group without a pattern, with an unknown key, a value out of range or a wrong
/// expression, or whose pattern is found in no name (with the nearest ones).
void apply_groups(const Value& description, const OptimizerOptions& options, std::vector<OptimizerPiece>& pieces);

/// The same checks on names alone: what `ftengine check` asks for.
void check_groups(const Value& description, const std::vector<std::string>& names);

}  // namespace ft
