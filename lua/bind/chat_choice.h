#pragma once
/// What a plan's chat data says about which turns are learned, as the engine reads it. Used by lua/bind only.

#include "engine/data/chat_labels.h"
#include "engine/schema/value.h"

namespace ft {

/// @param given roles_to_train, train_turns ("all" or "last"), mask_prompts, system, template_variables; all optional
ChatChoice chat_choice(const Value& given);

}  // namespace ft
