#pragma once
/// Where `require` looks: modules preloaded by the host, the embedded standard library, files beside the recipe. Used
/// by the VM alone.

#include <string>

#include "lua/vm/embedded_file.h"

struct lua_State;

namespace ft {

/// Replaces Lua's own searchers (which read LUA_PATH and the system's folders).
void install_searchers(lua_State* state, EmbeddedFiles files, const std::string& stdlib_on_disk);

/// Lets `require "x.y"` find x/y.lua in the folder of the recipe.
void set_recipe_folder(lua_State* state, const std::string& folder);

}  // namespace ft
