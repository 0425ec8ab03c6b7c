#include "lua/vm/strict.h"

#include <lua.hpp>
#include <string>

namespace ft {
namespace {

std::string name_of_key(lua_State* L, int index) {
  if (lua_type(L, index) == LUA_TSTRING) return lua_tostring(L, index);
  return luaL_typename(L, index);
}

int undeclared_read(lua_State* L) {
  const std::string name = name_of_key(L, 2);
  return luaL_error(L, "global '%s' is not declared (a misspelt local?)", name.c_str());
}

int undeclared_write(lua_State* L) {
  const std::string name = name_of_key(L, 2);
  return luaL_error(L, "global '%s' is assigned; write 'local %s'", name.c_str(), name.c_str());
}

}  // namespace

void seal_globals(lua_State* L) {
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  lua_createtable(L, 0, 3);
  lua_pushcfunction(L, undeclared_read);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, undeclared_write);
  lua_setfield(L, -2, "__newindex");
  lua_pushliteral(L, "sealed");
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  lua_pop(L, 1);
}

}  // namespace ft
