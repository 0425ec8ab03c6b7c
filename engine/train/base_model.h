#pragma once
/// The base of a plan as every part opens it: the Hugging Face directory, with the rows that new tokens add to its
/// tables (model.grown). Reads headers alone.

#include <filesystem>
#include <memory>

#include "engine/formats/model_directory.h"
#include "engine/schema/value.h"

namespace ft {

/// @param model the plan's `model`   @return null where it names no directory
/// @throws as ModelDirectory and its grow()
std::unique_ptr<ModelDirectory> open_base(const Value& model);

}  // namespace ft
