#pragma once
/// The registry's declarations of layouts over ranks. Called by registry.cpp alone.

#include "engine/schema/schema.h"

namespace ft {

/// ft.fsdp2: the block `parallel`.
Schema fsdp2_schema();

/// parallel.mesh.
Schema mesh_schema();

}  // namespace ft
