#pragma once
/// Globals as errors: reading or writing one that is not Lua's own raises an error that names it. Used by the VM alone.

struct lua_State;

namespace ft {

/// Seals the table of globals as it stands.
void seal_globals(lua_State* state);

}  // namespace ft
