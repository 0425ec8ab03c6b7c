#pragma once
/// The registry's declarations of data sets. Called by registry.cpp alone.

#include <vector>

#include "engine/schema/schema.h"

namespace ft {

/// The splits of a plan, then ft.chat, ft.alpaca, …
std::vector<Schema> data_schemas();

}  // namespace ft
