#include "lua/vm/vm.h"

#include <algorithm>
#include <lua.hpp>
#include <new>

#include "lua/vm/searcher.h"
#include "lua/vm/strict.h"

namespace ft {
namespace {

// Native bytes that may pile up between two collections. A handle costs Lua some 100 bytes whatever it holds.
constexpr int64_t kLeastPressure = int64_t{256} << 20;
constexpr int kInstructionsPerCheck = 100000;  // of the interpreter, between two questions whether to stop
const char kPressureKey = 0, kInterruptKey = 0;

struct Pressure {
  int64_t bytes = 0;
  int64_t limit = kLeastPressure;
};

Pressure* pressure(lua_State* L) {
  lua_pushlightuserdata(L, const_cast<char*>(&kPressureKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  auto* found = static_cast<Pressure*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  return found;
}

/// Message handler: keeps error tables as they are and adds the frames, which are gone once pcall returns.
int add_trace(lua_State* L) {
  if (lua_istable(L, 1)) {
    lua_pushliteral(L, "trace");
    lua_rawget(L, 1);
    const bool known = !lua_isnil(L, -1);
    lua_pop(L, 1);
    if (known) return 1;
    luaL_traceback(L, L, nullptr, 1);
    lua_setfield(L, 1, "trace");
    return 1;
  }
  const char* text = lua_tostring(L, 1);
  const std::string message = text ? text : luaL_typename(L, 1);
  lua_createtable(L, 0, 2);
  lua_pushlstring(L, message.data(), message.size());
  lua_setfield(L, -2, "message");
  luaL_traceback(L, L, nullptr, 1);
  lua_setfield(L, -2, "trace");
  return 1;
}

std::string text_field(lua_State* L, const char* key) {
  lua_pushstring(L, key);
  lua_rawget(L, -2);
  std::string text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  lua_pop(L, 1);
  return text;
}

/// Reads the error table on the stack's top and pops it.
Outcome failed(lua_State* L) {
  Outcome outcome{1, "", text_field(L, "trace"), text_field(L, "kind")};
  const std::string& kind = outcome.kind;
  if (kind == "usage") outcome.exit_code = 2;
  if (kind == "interrupt") outcome.exit_code = 130;
  if (kind == "exit") {  // asked for, after --help for one
    lua_getfield(L, -1, "code");
    outcome = {static_cast<int>(lua_tointeger(L, -1)), "", "", "exit"};
    lua_pop(L, 2);
    return outcome;
  }
  if (luaL_callmeta(L, -1, "__tostring")) {
    outcome.error = lua_tostring(L, -1);
    lua_pop(L, 1);
  } else {
    outcome.error = text_field(L, "message");
  }
  lua_pop(L, 1);
  return outcome;
}

using InterruptCheck = bool (*)();

/// Count hook. Compiled traces do not call it; the second Ctrl-C, which ends the process, does not need it.
void check_interrupt(lua_State* L, lua_Debug*) {
  lua_pushlightuserdata(L, const_cast<char*>(&kInterruptKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  const auto check = reinterpret_cast<InterruptCheck>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  if (!check || !check()) return;
  lua_sethook(L, check_interrupt, LUA_MASKLINE | LUA_MASKCOUNT, 1);  // again and again, until it is outside every pcall
  lua_createtable(L, 0, 2);
  lua_pushliteral(L, "interrupt");
  lua_setfield(L, -2, "kind");
  lua_pushliteral(L, "interrupted");
  lua_setfield(L, -2, "message");
  lua_error(L);
}

/// A syntax error as it is, but for a long path: Lua keeps only its end, "...folder/recipe.lua:3: unexpected symbol".
std::string with_whole_path(const std::string& message, const std::string& path) {
  if (message.rfind("...", 0) != 0) return message;
  const size_t end = message.find(':');
  const bool cut = end != std::string::npos && path.ends_with(message.substr(3, end - 3));
  return cut ? path + message.substr(end) : message;
}

}  // namespace

Vm::Vm(const VmOptions& options) : state_(luaL_newstate()) {
  if (!state_) throw std::bad_alloc();
  lua_State* L = state_;
  lua_gc(L, LUA_GCSTOP, 0);
  luaL_openlibs(L);
  lua_pushlightuserdata(L, const_cast<char*>(&kPressureKey));
  new (lua_newuserdata(L, sizeof(Pressure))) Pressure;
  lua_rawset(L, LUA_REGISTRYINDEX);
  install_searchers(L, options.files, options.stdlib_on_disk);
  seal_globals(L);
  if (options.interrupted) {
    lua_pushlightuserdata(L, const_cast<char*>(&kInterruptKey));
    lua_pushlightuserdata(L, reinterpret_cast<void*>(options.interrupted));
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_sethook(L, check_interrupt, LUA_MASKCOUNT, kInstructionsPerCheck);
  }
  lua_gc(L, LUA_GCRESTART, 0);
}

Vm::~Vm() { lua_close(state_); }

Outcome Vm::call(int arguments) {
  lua_State* L = state_;
  const int function = lua_gettop(L) - arguments;
  lua_pushcfunction(L, add_trace);
  lua_insert(L, function);
  const int status = lua_pcall(L, arguments, 0, function);
  lua_remove(L, function);
  return status == 0 ? Outcome{} : failed(L);
}

Outcome Vm::run_file(const std::string& path, const std::vector<std::string>& arguments) {
  lua_State* L = state_;
  const size_t slash = path.rfind('/');
  set_recipe_folder(L, slash == std::string::npos ? "" : path.substr(0, slash));
  if (luaL_loadfile(L, path.c_str()) != 0) {
    Outcome outcome{1, with_whole_path(lua_tostring(L, -1), path), "", "config"};
    lua_pop(L, 1);
    return outcome;
  }
  for (const std::string& argument : arguments) lua_pushlstring(L, argument.data(), argument.size());
  return call(static_cast<int>(arguments.size()));
}

Outcome Vm::run_module(const std::string& module, const std::vector<std::string>& arguments) {
  lua_State* L = state_;
  const std::string text = "require(\"" + module + "\")(...)";
  if (luaL_loadbuffer(L, text.data(), text.size(), "=(command line)") != 0) return failed(L);
  for (const std::string& argument : arguments) lua_pushlstring(L, argument.data(), argument.size());
  return call(static_cast<int>(arguments.size()));
}

void defer_interrupts(lua_State* L) { lua_sethook(L, nullptr, 0, 0); }

void native_bytes(lua_State* L, int64_t bytes) {
  Pressure* p = pressure(L);
  p->bytes = std::max<int64_t>(0, p->bytes + bytes);
  if (bytes <= 0 || p->bytes < p->limit) return;
  lua_gc(L, LUA_GCCOLLECT, 0);  // __gc of dropped handles lowers p->bytes
  p->limit = std::max(kLeastPressure, 2 * p->bytes);
}

}  // namespace ft
