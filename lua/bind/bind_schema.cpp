// Constructors (ft.lora{…}, ft.plan{…}): a table of the recipe becomes a checked one with its defaults and the lines it
// was written on.
#include <lua.hpp>

#include "engine/error/error.h"
#include "engine/schema/registry.h"
#include "lua/bind/native.h"
#include "lua/bind/option_table.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/place.h"
#include "lua/boundary/values.h"

namespace ft {
namespace {

/// Replaces the table at 2 by one whose first unnamed value stands under the schema's positional key.
void name_the_positional(lua_State* L, const Schema& schema) {
  const std::string call = "ft." + schema.name;
  if (!lua_istable(L, 2) && schema.positional.empty())
    throw Error(ErrorKind::config, std::string("got ") + luaL_typename(L, 2) + ", want a table: " + call + " { … }")
        .key(call);
  if (!lua_istable(L, 2)) {
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, schema.positional.c_str());
    lua_replace(L, 2);
    return;
  }
  if (lua_objlen(L, 2) == 0) return;
  if (schema.positional.empty() || lua_objlen(L, 2) > 1)
    throw Error(ErrorKind::config, schema.positional.empty()
                                       ? "takes named values alone"
                                       : "takes one value without a name, '" + schema.positional + "'")
        .key(call)
        .help("keys: " + enumerate(schema.keys()));
  lua_newtable(L);
  for (lua_pushnil(L); lua_next(L, 2);) {
    lua_pushvalue(L, -2);
    if (lua_type(L, -1) == LUA_TNUMBER) {
      lua_pop(L, 1);
      lua_pushstring(L, schema.positional.c_str());
    }
    lua_insert(L, -2);  // table, key, key', value
    lua_rawset(L, -4);
  }
  lua_replace(L, 2);
}

/// Says of each entry on which line it stands; an entry that reads an option takes the option's origin.
void blame(lua_State* L, Value& value, const Origin& place, const std::map<std::string, KeyPlace>& keys,
           const std::string& prefix, const std::string& positional) {
  if (!value.is_map()) return;
  for (auto& [key, item] : value.as_map()) {
    const std::string path = prefix.empty() ? key : prefix + "." + key;
    auto found = keys.find(path);
    if (found == keys.end() && key == positional) found = keys.find(prefix.empty() ? "[1]" : prefix + ".[1]");
    if (item.origin.file.empty()) {
      item.origin = {place.file, found == keys.end() ? place.line : found->second.line};
      if (found != keys.end() && !found->second.reference.empty())
        if (const Origin origin = option_origin(L, found->second.reference); !origin.file.empty()) item.origin = origin;
      if (!item.find("kind")) blame(L, item, place, keys, path, "");
    }
  }
}

/// native.construct(schema, table) -> checked table; its faults wait with it for ft.plan.
int construct(lua_State* L) {
  return guarded(L, [&] {
    const std::string name = text_argument(L, 1, "a schema's name");
    const Schema* schema = find_schema(name);
    FT_CHECK(schema, "unknown schema " + name);
    lua_settop(L, 2);
    name_the_positional(L, *schema);
    const std::string call = "ft." + name;
    const Origin place = caller(L);
    std::vector<Fault> faults;
    Value value = to_value(L, 2, name == "plan" ? "" : call, &faults);
    value.origin = place;
    blame(L, value, place, keys_of_literal(place, call), "", schema->positional);
    check(*schema, value, name == "plan" ? "" : call, faults);
    push_value(L, value, true);
    leave_faults(L, -1, faults);
    return 1;
  });
}

/// native.origin(table, "parallel.offload_params") -> file, line of that entry, as far as they are known.
int origin(lua_State* L) {
  return guarded(L, [&] {
    const std::string path = text_argument(L, 2, "a key path");
    Origin found = origin_of(L, 1, "");
    lua_pushvalue(L, 1);
    for (size_t begin = 0; begin <= path.size() && lua_istable(L, -1);) {
      const size_t end = std::min(path.find('.', begin), path.size());
      const std::string key = path.substr(begin, end - begin);
      if (const Origin entry = origin_of(L, -1, key); !entry.file.empty()) found = entry;
      lua_getfield(L, -1, key.c_str());
      lua_remove(L, -2);
      begin = end + 1;
    }
    lua_pushstring(L, found.file.c_str());
    lua_pushinteger(L, found.line);
    return 2;
  });
}

/// native.entry_origin(table, key) -> file that the entry itself is from; "" for defaults
int entry_origin(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, origin_of(L, 1, text_argument(L, 2, "a key")).file.c_str());
    return 1;
  });
}

/// native.caller() -> file, line of the first frame outside the standard library.
int caller_of(lua_State* L) {
  const Origin place = caller(L);
  lua_pushstring(L, place.file.c_str());
  lua_pushinteger(L, place.line);
  return 2;
}

/// native.nearest(word, list) -> the closest candidate or nil.
int nearest_word(lua_State* L) {
  return guarded(L, [&] {
    std::vector<std::string> names;
    const Value list = to_value(L, 2, "candidates");
    for (const Value& name : list.as_list()) names.push_back(name.as_string());
    const std::string found = nearest(text_argument(L, 1, "a word"), names);
    if (found.empty()) return 0;
    lua_pushstring(L, found.c_str());
    return 1;
  });
}

/// native.raise{kind=, message=, path=, where=, help=}: raises one error.
int raise_one(lua_State* L) {
  return guarded(L, [&]() -> int {
    lua_settop(L, 1);
    throw read_error(L, 1);
  });
}

/// native.schema(name) -> { name, doc, positional, options = { { key, kind, limits, doc, required, default, allowed },
/// … }, renames = { { from, to }, … } }: the reference, of which docs/api/options.md is made.
int schema_table(lua_State* L) {
  return guarded(L, [&] {
    const Schema* schema = find_schema(text_argument(L, 1, "a schema's name"));
    if (!schema) return 0;
    Value::List options;
    for (const Option& option : schema->options) {
      Value entry = Value::map(
          {{"key", option.key}, {"kind", kind_text(option.kinds)}, {"doc", option.doc}, {"required", option.required}});
      if (const std::string limits = limits_text(option); !limits.empty()) entry.set("limits", limits);
      if (!option.fallback.is_null()) entry.set("default", option.fallback);
      if (!option.allowed.empty()) entry.set("allowed", Value(Value::List(option.allowed)));
      options.push_back(std::move(entry));
    }
    Value::List renames;
    for (const Rename& rename : schema->renames)
      renames.push_back(Value::map({{"from", rename.from}, {"to", rename.to}}));
    push_value(L, Value::map({{"name", schema->name},
                              {"doc", schema->doc},
                              {"positional", schema->positional},
                              {"options", Value(std::move(options))},
                              {"renames", Value(std::move(renames))}}));
    return 1;
  });
}

int schema_names(lua_State* L) {
  return guarded(L, [&] {
    Value::List names;
    for (const Schema& schema : schemas()) names.emplace_back(schema.name);
    push_value(L, Value(std::move(names)));
    return 1;
  });
}

}  // namespace

void bind_schema(lua_State* L) {
  add_function(L, "construct", construct);
  add_function(L, "raise", raise_one);
  add_function(L, "origin", origin);
  add_function(L, "entry_origin", entry_origin);
  add_function(L, "caller", caller_of);
  add_function(L, "nearest", nearest_word);
  add_function(L, "schema", schema_table);
  add_function(L, "schema_names", schema_names);
}

}  // namespace ft
