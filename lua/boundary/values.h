#pragma once
/// Lua tables to ft::Value and back. A list is a table with keys 1…n, a map one with string keys; a table that has
/// both, or holes, is refused by its path. Lua tables have no order, so a map's keys come out sorted. Where the host
/// knows on which line a table's entries were written, they keep it (a weak table in the registry).

#include <string>
#include <vector>

#include "engine/schema/fault.h"
#include "engine/schema/value.h"

struct lua_State;

namespace ft {

/// Reads the value at `index`. An empty table becomes an empty list.
/// @param path what messages call the value.
/// @param faults where not null, collects those that constructors left with the tables inside.
/// @throws Error(config) with the path for functions, handles, mixed tables, cycles.
Value to_value(lua_State* state, int index, const std::string& path, std::vector<Fault>* faults = nullptr);

/// Pushes a value as Lua data; a null inside a list or map is left out of a map and is `ft.null` in a list.
/// @param remember keep each entry's origin with the tables that are made.
void push_value(lua_State* state, const Value& value, bool remember = false);

/// Leaves faults with the table at `index`: ft.plan prints those of its parts together with its own.
void leave_faults(lua_State* state, int index, const std::vector<Fault>& faults);

/// Says where an entry of the table at `index` was written.
void set_origin(lua_State* state, int index, const std::string& key, const Origin& origin);

/// Origin of an entry of the table at `index`, as far as it is known.
Origin origin_of(lua_State* state, int index, const std::string& key);

}  // namespace ft
