#include "lua/boundary/handle.h"

#include <cstdio>
#include <new>

#include "engine/error/error.h"
#include "lua/boundary/guarded.h"
#include "lua/vm/vm.h"

namespace ft {
namespace {

const char kObjectsKey = 0;  // its address is the registry's key of the weak table object -> userdata
constexpr uint64_t kMark = 0x66746861'6e646c65;

struct Handle {
  uint64_t mark = kMark;
  const HandleClass* type = nullptr;
  std::shared_ptr<void> object;
  int64_t bytes = 0;
};

/// The userdata at `index` as a handle, or nullptr.
Handle* handle_at(lua_State* L, int index) {
  if (lua_type(L, index) != LUA_TUSERDATA || lua_objlen(L, index) != sizeof(Handle)) return nullptr;
  auto* handle = static_cast<Handle*>(lua_touserdata(L, index));
  return handle->mark == kMark ? handle : nullptr;
}

void let_go(lua_State* L, Handle& handle) {
  handle.object.reset();
  if (handle.bytes) native_bytes(L, -handle.bytes);
  handle.bytes = 0;
}

int collect(lua_State* L) {
  if (Handle* handle = handle_at(L, 1)) {
    let_go(L, *handle);
    handle->~Handle();
  }
  return 0;
}

int release(lua_State* L) {
  return guarded(L, [&] {
    Handle* handle = handle_at(L, 1);
    if (!handle) throw Error(ErrorKind::config, "release wants a handle; call it with ':'");
    let_go(L, *handle);
    return 0;
  });
}

int describe(lua_State* L) {
  return guarded(L, [&] {
    const Handle* handle = handle_at(L, 1);
    if (!handle) throw Error(ErrorKind::config, "tostring wants a handle");
    std::string text = handle->type->name;
    if (!handle->object)
      text += " (released)";
    else if (handle->type->describe)
      text = handle->type->describe(handle->object.get());
    lua_pushlstring(L, text.data(), text.size());
    return 1;
  });
}

/// obj.missing: upvalue 1 is the type's name.
int missing_method(lua_State* L) {
  return guarded(L, [&]() -> int {
    const char* key = lua_tostring(L, 2);
    throw Error(ErrorKind::config, std::string(lua_tostring(L, lua_upvalueindex(1))) + " has no method '" +
                                       (key ? key : luaL_typename(L, 2)) + "'");
  });
}

void push_metatable(lua_State* L, const HandleClass& type) {
  const std::string name = std::string("ft.") + type.name;
  if (!luaL_newmetatable(L, name.c_str())) return;
  lua_newtable(L);  // methods
  lua_pushcfunction(L, release);
  lua_setfield(L, -2, "release");
  for (const luaL_Reg& method : type.methods) {
    const bool meta = method.name[0] == '_' && method.name[1] == '_';
    lua_pushcfunction(L, method.func);
    lua_setfield(L, meta ? -3 : -2, method.name);
  }
  lua_createtable(L, 0, 1);  // what is not a method
  lua_pushstring(L, type.name);
  lua_pushcclosure(L, type.fallback ? type.fallback : missing_method, 1);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, describe);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "handle");
  lua_setfield(L, -2, "__metatable");
}

void push_objects(lua_State* L) {
  lua_pushlightuserdata(L, const_cast<char*>(&kObjectsKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_istable(L, -1)) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushlightuserdata(L, const_cast<char*>(&kObjectsKey));
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

}  // namespace

void push_object(lua_State* L, const HandleClass& type, std::shared_ptr<void> object) {
  if (!object) {
    lua_pushnil(L);
    return;
  }
  push_objects(L);
  lua_pushlightuserdata(L, object.get());
  lua_rawget(L, -2);
  const Handle* known = handle_at(L, -1);
  if (known && known->object == object && known->type == &type) {
    lua_remove(L, -2);
    return;
  }
  lua_pop(L, 1);
  const int64_t bytes = type.bytes ? type.bytes(object.get()) : 0;
  if (bytes) native_bytes(L, bytes);
  void* key = object.get();
  auto* handle = new (lua_newuserdata(L, sizeof(Handle))) Handle;
  handle->type = &type;
  handle->object = std::move(object);
  handle->bytes = bytes;
  push_metatable(L, type);
  lua_setmetatable(L, -2);
  lua_pushlightuserdata(L, key);
  lua_pushvalue(L, -2);
  lua_rawset(L, -4);
  lua_remove(L, -2);
}

std::shared_ptr<void> check_object(lua_State* L, int index, const HandleClass& type) {
  const Handle* handle = handle_at(L, index);
  if (!handle || handle->type != &type)
    throw Error(ErrorKind::config,
                std::string("got ") + (handle ? handle->type->name : luaL_typename(L, index)) + ", want " + type.name);
  if (!handle->object) throw Error(ErrorKind::config, std::string(type.name) + " is used after it has been released");
  return handle->object;
}

bool is_object(lua_State* L, int index, const HandleClass& type) {
  const Handle* handle = handle_at(L, index);
  return handle && handle->type == &type && handle->object;
}

}  // namespace ft
