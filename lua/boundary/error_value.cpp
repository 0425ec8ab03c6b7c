#include "lua/boundary/error_value.h"

#include <cstdlib>
#include <lua.hpp>

#include "lua/boundary/place.h"
#include "lua/boundary/values.h"

namespace ft {
namespace {

const char* const kErrorType = "ft.error";
ForeignException foreign_exception = nullptr;

std::string text_field(lua_State* L, int index, const char* key) {
  lua_pushstring(L, key);
  lua_rawget(L, index < 0 ? index - 1 : index);
  std::string text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  lua_pop(L, 1);
  return text;
}

void set_text(lua_State* L, const char* key, const std::string& text) {
  if (text.empty()) return;
  lua_pushlstring(L, text.data(), text.size());
  lua_setfield(L, -2, key);
}

int error_text(lua_State* L) {
  if (!lua_istable(L, 1)) return luaL_error(L, "expected an error value");
  const std::string text = text_field(L, 1, "text");
  const std::string whole = text.empty() ? read_error(L, 1).what() : text;
  lua_pushlstring(L, whole.data(), whole.size());
  return 1;
}

void set_error_type(lua_State* L) {
  if (luaL_newmetatable(L, kErrorType)) {
    lua_pushcfunction(L, error_text);
    lua_setfield(L, -2, "__tostring");
  }
  lua_setmetatable(L, -2);
}

/// "recipes/my.lua:3: what" -> place and message; Lua writes its own errors so.
Error read_text(const std::string& text) {
  const size_t colon = text.find(':');
  if (colon != std::string::npos && colon > 0) {
    const size_t second = text.find(':', colon + 1);
    if (second != std::string::npos && second > colon + 1 &&
        text.find_first_not_of("0123456789", colon + 1) == second && text.compare(second, 2, ": ") == 0)
      return std::move(Error(ErrorKind::config, text.substr(second + 2)).at(text.substr(0, second)));
  }
  return Error(ErrorKind::config, text);
}

}  // namespace

void set_foreign_exception(ForeignException reader) { foreign_exception = reader; }

ErrorKind error_kind(const std::string& name) {
  for (const ErrorKind kind : {ErrorKind::format, ErrorKind::io, ErrorKind::shape, ErrorKind::memory, ErrorKind::comm,
                               ErrorKind::interrupt, ErrorKind::internal})
    if (name == to_string(kind)) return kind;
  return ErrorKind::config;
}

Error to_error(const std::exception& exception) {
  if (const auto* error = dynamic_cast<const Error*>(&exception)) return *error;
  if (foreign_exception)
    if (auto error = foreign_exception(exception)) return *error;
  if (dynamic_cast<const std::bad_alloc*>(&exception)) return Error(ErrorKind::memory, "host memory is out");
  return Error(ErrorKind::internal, exception.what());
}

void push_error(lua_State* L, const Error& error) {
  luaL_checkstack(L, 8, "an error");
  lua_createtable(L, 0, 6);
  set_text(L, "kind", to_string(error.kind()));
  set_text(L, "message", error.message());
  set_text(L, "path", error.path());
  set_text(L, "help", error.help());
  set_text(L, "where", error.where().empty() ? caller(L).str() : error.where());
  if (!error.frames().empty()) {
    lua_createtable(L, static_cast<int>(error.frames().size()), 0);
    for (size_t i = 0; i < error.frames().size(); ++i) {
      lua_pushstring(L, error.frames()[i].c_str());
      lua_rawseti(L, -2, static_cast<int>(i) + 1);
    }
    lua_setfield(L, -2, "frames");
  }
  set_error_type(L);
}

void push_faults(lua_State* L, const std::vector<Fault>& faults) {
  lua_createtable(L, 0, 4);
  set_text(L, "kind", "config");
  set_text(L, "message", faults.empty() ? "" : faults[0].message);
  set_text(L, "text", render(faults));
  Value::List list;
  for (const Fault& fault : faults) list.push_back(as_value(fault));
  push_value(L, Value(std::move(list)));
  lua_setfield(L, -2, "faults");
  lua_pushinteger(L, static_cast<lua_Integer>(faults.size()));
  lua_setfield(L, -2, "count");
  set_error_type(L);
}

void raise(lua_State* L) {
  lua_error(L);
  std::abort();  // lua_error does not return
}

Error read_error(lua_State* L, int index) {
  if (!lua_istable(L, index))
    return read_text(lua_isstring(L, index) ? lua_tostring(L, index) : luaL_typename(L, index));
  const std::string kind = text_field(L, index, "kind"), where = text_field(L, index, "where");
  const std::string text = text_field(L, index, "text"), message = text_field(L, index, "message");
  if (!text.empty()) return Error(error_kind(kind), text);
  Error error = where.empty() && kind.empty() ? read_text(message) : Error(error_kind(kind), message);
  error.at(where).key(text_field(L, index, "path")).help(text_field(L, index, "help"));
  lua_getfield(L, index, "frames");
  if (lua_istable(L, -1))
    for (size_t i = 1; i <= lua_objlen(L, -1); ++i) {
      lua_rawgeti(L, -1, static_cast<int>(i));
      error.context(lua_tostring(L, -1));
      lua_pop(L, 1);
    }
  lua_pop(L, 1);
  return error;
}

}  // namespace ft
