#pragma once
/// The schemas of the engine's own blocks: what ft.plan{…} and the constructors under it take. A checked block is a map
/// with its schema's name under `kind` and every default filled in; docs/architecture.md, "The resolved plan", lists
/// what the engine's Run reads of them.

#include <string_view>
#include <vector>

#include "engine/schema/schema.h"

namespace ft {

/// Every built-in schema, in the order of the reference page.
const std::vector<Schema>& schemas();

/// The schema of that name, or nullptr.
const Schema* find_schema(std::string_view name);

}  // namespace ft
