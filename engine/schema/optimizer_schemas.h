#pragma once
/// The registry's declarations of optimizers and learning rate schedules. Called by registry.cpp alone.

#include <vector>

#include "engine/schema/schema.h"

namespace ft {

/// ft.adamw, ft.sgd, … and ft.constant, ft.linear, …
std::vector<Schema> optimizer_schemas();

}  // namespace ft
