#include "lua/boundary/values.h"

#include <algorithm>
#include <cmath>
#include <lua.hpp>
#include <memory>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr int kDeepest = 64;                   // nested tables; more is a cycle
constexpr double kExact = 9007199254740992.0;  // 2^53: a double holds every integer up to here
const char kOriginsKey = 0, kFaultsKey = 0;    // their addresses are keys of the registry

int absolute(lua_State* L, int index) {
  return index < 0 && index > LUA_REGISTRYINDEX ? lua_gettop(L) + index + 1 : index;
}

/// Pushes the registry's table of that key, with weak keys; makes it when it is not there.
void push_weak_table(lua_State* L, const void* key) {
  lua_pushlightuserdata(L, const_cast<void*>(key));
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_istable(L, -1)) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushlightuserdata(L, const_cast<void*>(key));
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

/// Pushes weak[table at index], or nil.
void push_attached(lua_State* L, int index, const void* key) {
  index = absolute(L, index);
  push_weak_table(L, key);
  lua_pushvalue(L, index);
  lua_rawget(L, -2);
  lua_remove(L, -2);
}

/// weak[table at index] = the value on top, which is popped.
void attach(lua_State* L, int index, const void* key) {
  index = absolute(L, index);
  push_weak_table(L, key);
  lua_pushvalue(L, index);
  lua_pushvalue(L, -3);
  lua_rawset(L, -3);
  lua_pop(L, 2);
}

Origin read_origin(lua_State* L, const std::string& key) {  // of the origins table on top
  Origin origin;
  if (!lua_istable(L, -1)) return origin;
  lua_getfield(L, -1, key.c_str());
  if (lua_istable(L, -1)) {
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    origin = {lua_tostring(L, -2), static_cast<int>(lua_tointeger(L, -1))};
    lua_pop(L, 2);
  }
  lua_pop(L, 1);
  return origin;
}

void write_origin(lua_State* L, const std::string& key, const Origin& origin) {  // into the table on top
  if (origin.file.empty()) return;
  lua_createtable(L, 2, 0);
  lua_pushstring(L, origin.file.c_str());
  lua_rawseti(L, -2, 1);
  lua_pushinteger(L, origin.line);
  lua_rawseti(L, -2, 2);
  lua_setfield(L, -2, key.c_str());
}

struct FaultList {
  std::vector<Fault> faults;
};

int free_faults(lua_State* L) {
  static_cast<FaultList*>(lua_touserdata(L, 1))->~FaultList();
  return 0;
}

class Reader {
 public:
  Reader(lua_State* L, std::vector<Fault>* faults) : L_(L), faults_(faults) {}

  Value read(int index, const std::string& path, int depth) {
    switch (lua_type(L_, index)) {
      case LUA_TNIL:
        return {};
      case LUA_TBOOLEAN:
        return lua_toboolean(L_, index) != 0;
      case LUA_TNUMBER:
        return number(lua_tonumber(L_, index));
      case LUA_TSTRING: {
        size_t length = 0;
        const char* text = lua_tolstring(L_, index, &length);
        return std::string(text, length);
      }
      case LUA_TTABLE:
        return table(absolute(L_, index), path, depth);
      case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L_, index)) return {};
        break;
      default:
        break;
    }
    throw Error(ErrorKind::config,
                std::string("got ") + luaL_typename(L_, index) + ", want plain data: text, numbers, booleans, tables")
        .key(path);
  }

 private:
  static Value number(double v) {
    if (std::trunc(v) == v && std::abs(v) <= kExact) return static_cast<int64_t>(v);
    return v;
  }

  /// Counts the table's keys: (entries of 1…n, string keys).   @throws for keys of other types, holes and mixtures
  size_t list_size(int index, const std::string& path) {
    size_t numbers = 0, strings = 0;
    double largest = 0;
    for (lua_pushnil(L_); lua_next(L_, index); lua_pop(L_, 1)) {
      if (lua_type(L_, -2) == LUA_TSTRING) {
        ++strings;
        continue;
      }
      const double key = lua_type(L_, -2) == LUA_TNUMBER ? lua_tonumber(L_, -2) : 0;
      if (key < 1 || std::trunc(key) != key)
        throw Error(ErrorKind::config, "has a key that is neither text nor a position 1, 2, …").key(path);
      largest = std::max(largest, key);
      ++numbers;
    }
    if (numbers && strings)
      throw Error(ErrorKind::config, "mixes named and unnamed values")
          .key(path)
          .help("give every value a name, or none");
    if (static_cast<double>(numbers) != largest)
      throw Error(ErrorKind::config, "is a list with holes (nil inside)").key(path);
    return numbers;
  }

  Value table(int index, const std::string& path, int depth) {
    if (depth > kDeepest) throw Error(ErrorKind::config, "is nested too deeply, or contains itself").key(path);
    luaL_checkstack(L_, 8, "a nested table");
    if (faults_) collect_faults(index);
    const size_t size = list_size(index, path);
    push_attached(L_, index, &kOriginsKey);
    const int origins = lua_gettop(L_);
    Value out = size ? list(index, path, depth, size) : map(index, origins, path, depth);
    lua_settop(L_, origins);
    out.origin = read_origin(L_, "");
    lua_pop(L_, 1);
    return out;
  }

  Value list(int index, const std::string& path, int depth, size_t size) {
    Value::List items;
    for (size_t i = 1; i <= size; ++i) {
      lua_rawgeti(L_, index, static_cast<int>(i));
      items.push_back(read(-1, path + "[" + std::to_string(i) + "]", depth + 1));
      lua_pop(L_, 1);
    }
    return items;
  }

  Value map(int index, int origins, const std::string& path, int depth) {
    std::vector<std::string> keys;
    for (lua_pushnil(L_); lua_next(L_, index); lua_pop(L_, 1)) keys.emplace_back(lua_tostring(L_, -2));
    if (keys.empty()) return Value::list();
    std::sort(keys.begin(), keys.end());
    Value out = Value::map();
    for (const std::string& key : keys) {
      lua_pushlstring(L_, key.data(), key.size());
      lua_rawget(L_, index);
      Value item = read(-1, path.empty() ? key : path + "." + key, depth + 1);
      lua_pop(L_, 1);
      lua_pushvalue(L_, origins);
      if (const Origin origin = read_origin(L_, key); !origin.file.empty()) item.origin = origin;
      lua_pop(L_, 1);
      out.set(key, std::move(item));
    }
    return out;
  }

  void collect_faults(int index) {
    push_attached(L_, index, &kFaultsKey);
    if (const auto* left = static_cast<FaultList*>(lua_touserdata(L_, -1)))
      faults_->insert(faults_->end(), left->faults.begin(), left->faults.end());
    lua_pop(L_, 1);
  }

  lua_State* L_;
  std::vector<Fault>* faults_;
};

}  // namespace

Value to_value(lua_State* L, int index, const std::string& path, std::vector<Fault>* faults) {
  return Reader(L, faults).read(absolute(L, index), path, 0);
}

void push_value(lua_State* L, const Value& value, bool remember) {
  luaL_checkstack(L, 8, "a nested value");
  switch (value.kind()) {
    case Value::Kind::null:
      lua_pushlightuserdata(L, nullptr);
      return;
    case Value::Kind::boolean:
      lua_pushboolean(L, value.as_bool());
      return;
    case Value::Kind::integer:
    case Value::Kind::number:
      lua_pushnumber(L, value.as_number());
      return;
    case Value::Kind::string:
      lua_pushlstring(L, value.as_string().data(), value.as_string().size());
      return;
    case Value::Kind::list: {
      lua_createtable(L, static_cast<int>(value.as_list().size()), 0);
      int i = 0;
      for (const Value& item : value.as_list()) {
        push_value(L, item, remember);
        lua_rawseti(L, -2, ++i);
      }
      return;
    }
    case Value::Kind::map:
      break;
  }
  lua_createtable(L, 0, static_cast<int>(value.as_map().size()));
  for (const auto& [key, item] : value.as_map()) {
    if (item.is_null()) continue;
    lua_pushlstring(L, key.data(), key.size());
    push_value(L, item, remember);
    lua_rawset(L, -3);
  }
  if (!remember) return;
  lua_newtable(L);
  write_origin(L, "", value.origin);
  for (const auto& [key, item] : value.as_map()) write_origin(L, key, item.origin);
  attach(L, -2, &kOriginsKey);
}

void leave_faults(lua_State* L, int index, const std::vector<Fault>& faults) {
  if (faults.empty()) return;
  index = absolute(L, index);
  new (lua_newuserdata(L, sizeof(FaultList))) FaultList{faults};
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, free_faults);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  attach(L, index, &kFaultsKey);
}

void set_origin(lua_State* L, int index, const std::string& key, const Origin& origin) {
  index = absolute(L, index);
  push_attached(L, index, &kOriginsKey);
  if (!lua_istable(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    attach(L, index, &kOriginsKey);
  }
  write_origin(L, key, origin);
  lua_pop(L, 1);
}

Origin origin_of(lua_State* L, int index, const std::string& key) {
  push_attached(L, index, &kOriginsKey);
  Origin origin = read_origin(L, key);
  lua_pop(L, 1);
  return origin;
}

}  // namespace ft
