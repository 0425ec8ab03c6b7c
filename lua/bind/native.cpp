#include "lua/bind/native.h"

#include <lua.hpp>

#include "engine/error/error.h"
#include "lua/boundary/guarded.h"

namespace ft {
namespace {

const char kHostKey = 0;  // its address is the registry's key of the host

int open(lua_State* L) {
  lua_newtable(L);
  bind_schema(L);
  bind_faults(L);
  bind_options(L);
  bind_files(L);
  bind_aten(L);
  bind_tensor(L);
  bind_tokenizer(L);
  bind_chat_template(L);
  bind_rows(L);
  bind_row_source(L);
  bind_model(L);
  bind_memory_plan(L);
  bind_modules(L);
  bind_run(L);
  lua_pushlightuserdata(L, nullptr);
  lua_setfield(L, -2, "null");
  return 1;
}

}  // namespace

void open_native(lua_State* L, const Host& host) {
  lua_pushlightuserdata(L, const_cast<char*>(&kHostKey));
  lua_pushlightuserdata(L, const_cast<Host*>(&host));
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_getfield(L, LUA_REGISTRYINDEX, "_PRELOAD");
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, "ft.native");
  lua_pop(L, 1);
}

const Host& host_of(lua_State* L) {
  lua_pushlightuserdata(L, const_cast<char*>(&kHostKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  const auto* host = static_cast<const Host*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  return *host;
}

void add_function(lua_State* L, const char* name, int (*function)(lua_State*)) {
  lua_pushcfunction(L, function);
  lua_setfield(L, -2, name);
}

std::string text_argument(lua_State* L, int index, const char* what) {
  if (lua_type(L, index) != LUA_TSTRING)
    throw Error(ErrorKind::config, std::string("got ") + luaL_typename(L, index) + ", want text: " + what);
  size_t length = 0;
  const char* text = lua_tolstring(L, index, &length);
  return {text, length};
}

double number_argument(lua_State* L, int index, const char* what, const double* otherwise) {
  if (otherwise && lua_isnoneornil(L, index)) return *otherwise;
  if (lua_type(L, index) != LUA_TNUMBER)
    throw Error(ErrorKind::config, std::string("got ") + luaL_typename(L, index) + ", want a number: " + what);
  return lua_tonumber(L, index);
}

}  // namespace ft
