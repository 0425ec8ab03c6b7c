// ft.options: the recipe's declaration becomes a schema, which the command line fills.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <lua.hpp>

#include "engine/error/error.h"
#include "lua/bind/native.h"
#include "lua/bind/option_table.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/place.h"
#include "lua/boundary/values.h"

namespace ft {
namespace {

const char kOptionsKey = 0;  // its address is the registry's key of the options' table

void remember_options(lua_State* L) {  // the table on top
  lua_pushlightuserdata(L, const_cast<char*>(&kOptionsKey));
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

[[noreturn]] void raise_kind(lua_State* L, const char* kind, const std::string& message) {
  lua_createtable(L, 0, 2);
  lua_pushstring(L, kind);
  lua_setfield(L, -2, "kind");
  lua_pushlstring(L, message.data(), message.size());
  lua_setfield(L, -2, "message");
  raise(L);
}

/// native.options{ {key, {kind=, default=, …}}, … } -> table of values. Raises a usage error for a wrong command line,
/// and `exit` after --help.
int options(lua_State* L) {
  std::string kind, message;
  const int results = guarded(L, [&] {
    const Origin place = caller(L);
    const auto keys = keys_of_literal(place, "ft.options");
    Value given = to_value(L, 1, "ft.options");
    Schema declared{.name = "options", .doc = "", .options = {}};
    for (Value& entry : given.as_list()) {
      const std::string key = entry.at("key").as_string();
      Value& description = *entry.find("option");
      const auto found = keys.find(key);
      description.origin = {place.file, found == keys.end() ? place.line : found->second.line};
      declared.options.push_back(read_option(key, description));
    }
    const auto line_of = [&](const Option& option) {
      const auto found = keys.find(option.key);
      return found == keys.end() ? place.line : found->second.line;
    };
    std::stable_sort(declared.options.begin(), declared.options.end(),
                     [&](const Option& a, const Option& b) { return line_of(a) < line_of(b); });
    const Host& host = host_of(L);
    const Flags flags = read_flags(declared, host.flags);
    if (!flags.wrong.empty()) {
      kind = "usage", message = flags.wrong;
      return 0;
    }
    if (flags.help) {
      if (!host.quiet) std::fputs(usage(declared, host).c_str(), stdout);
      kind = "exit";
      return 0;
    }
    std::vector<Fault> faults;
    const Value values = fill_options(declared, flags, host, faults);
    push_value(L, values, true);
    remember_options(L);
    leave_faults(L, -1, faults);
    return 1;
  });
  if (!kind.empty()) raise_kind(L, kind == "exit" ? "exit" : "usage", message);
  return results;
}

/// native.refuse_flags(): for a recipe without options, which takes no flags.
int refuse_flags(lua_State* L) {
  std::string message;
  {
    const Flags flags = read_flags(Schema{.name = "options", .doc = "", .options = {}}, host_of(L).flags);
    message = flags.wrong;
  }
  if (!message.empty()) raise_kind(L, "usage", message);
  return 0;
}

/// A path that runs this very program, also when its file has been replaced since: /proc/self/exe would then be the
/// name of a file that is not there.
std::string this_program() { return "/proc/" + std::to_string(getpid()) + "/exe"; }

/// native.host() -> { command=, recipe=, nproc=, resume=, flags= }
int host_table(lua_State* L) {
  return guarded(L, [&] {
    const Host& host = host_of(L);
    Value::List flags(host.flags.begin(), host.flags.end());
    push_value(L, Value::map({{"command", host.command},
                              {"recipe", host.recipe},
                              {"program", this_program()},
                              {"nproc", host.nproc},
                              {"nnodes", host.launch.nodes.count},
                              {"resume", host.resume},
                              {"quiet", host.quiet},
                              {"device_memory", host.device_memory},
                              {"host_memory", host.host_memory},
                              {"json", host.json},
                              {"flags", Value(std::move(flags))}}));
    return 1;
  });
}

}  // namespace

Origin option_origin(lua_State* L, const std::string& name) {
  lua_pushlightuserdata(L, const_cast<char*>(&kOptionsKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  Origin origin;
  if (lua_istable(L, -1)) origin = origin_of(L, -1, name);
  lua_pop(L, 1);
  return origin;
}

void bind_options(lua_State* L) {
  add_function(L, "options", options);
  add_function(L, "refuse_flags", refuse_flags);
  add_function(L, "host", host_table);
}

}  // namespace ft
