#pragma once
/// The order in which transformers' Trainer hands parameters to an optimizer, which torch's optimizer.pt numbers them
/// by: groups with and without weight decay (Trainer.create_optimizer, trainer_pt_utils.get_parameter_names), each in
/// the order in which the model's classes register their modules. Used by runs that go on from a Trainer's checkpoint.

#include <optional>
#include <string>
#include <vector>

namespace ft {

/// Groups of the parameters' names: with decay, and without.
/// @param trained names of all trained parameters, in any order   @param model_type of config.json
/// @return nothing for a model type or a parameter whose place is not known to be right
///   (tests/golden/trainer_order.json), and for adapters beside weights that are trained whole
std::optional<std::vector<std::vector<std::string>>> trainer_groups(const std::vector<std::string>& trained,
                                                                    const std::string& model_type);

}  // namespace ft
