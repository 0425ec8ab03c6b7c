// ft.aten: every op that the dispatcher knows, called by its schema. Arguments are positional or, in a last table,
// named: ft.aten.add(a, b, { alpha = 2 }). Of an op's overloads the first one that fits is taken.
#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <lua.hpp>
#include <map>
#include <sstream>

#include "engine/error/error.h"
#include "engine/schema/fault.h"
#include "lua/bind/lua_clock.h"
#include "lua/bind/native.h"
#include "lua/bind/tensor.h"
#include "lua/boundary/guarded.h"

namespace ft {
namespace {

using Overloads = std::vector<c10::OperatorHandle>;

/// Ops by name ("aten::add"), those with an `out` argument last. The dispatcher's own look-up wants the overload's
/// name.
const std::map<std::string, Overloads>& all_ops() {
  static const std::map<std::string, Overloads> ops = [] {
    const InNative native;  // once a process, not a forward's own time
    std::map<std::string, Overloads> found;
    for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames())
      if (const auto handle = c10::Dispatcher::singleton().findSchema(name)) found[name.name].push_back(*handle);
    const auto is_out = [](const c10::OperatorHandle& op) {
      return op.operator_name().overload_name.find("out") != std::string::npos;
    };
    const auto is_tensor = [](const c10::OperatorHandle& op) {
      return op.operator_name().overload_name.find("Tensor") == std::string::npos;
    };
    for (auto& [name, overloads] : found)
      std::stable_sort(overloads.begin(), overloads.end(), [&](const auto& a, const auto& b) {
        return std::make_tuple(is_out(a), is_tensor(a), a.operator_name().overload_name) <
               std::make_tuple(is_out(b), is_tensor(b), b.operator_name().overload_name);
      });
    return found;
  }();
  return ops;
}

/// "add" -> aten::add, else ft::add; "ft::rms_norm" as it is.
const Overloads* find_op(const std::string& name, std::string& qualified) {
  for (const std::string& candidate : {name, "aten::" + name, "ft::" + name})
    if (const auto found = all_ops().find(candidate); found != all_ops().end()) {
      qualified = candidate;
      return &found->second;
    }
  return nullptr;
}

/// A call's arguments on the Lua stack: [1, positional], and a table of named ones or 0.
struct Arguments {
  int positional = 0;
  int named = 0;
};

/// A last table that is not a list holds named arguments.
Arguments split_arguments(lua_State* L) {
  const int top = lua_gettop(L);
  if (top > 0 && lua_istable(L, top) && lua_objlen(L, top) == 0) {
    lua_pushnil(L);
    if (lua_next(L, top)) {
      lua_pop(L, 2);
      return {top - 1, top};
    }
  }
  return {top, 0};
}

/// Names in the table that the schema lacks, or that positional arguments have already given.
bool names_fit(lua_State* L, const Arguments& given, const c10::FunctionSchema& schema, std::string& why) {
  if (!given.named) return true;
  for (lua_pushnil(L); lua_next(L, given.named); lua_pop(L, 1)) {
    const std::string name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    const auto index = schema.argumentIndexWithName(name);
    if (index && *index >= given.positional) continue;
    why = index ? "'" + name + "' is given twice" : "no argument '" + name + "'";
    lua_pop(L, 2);
    return false;
  }
  return true;
}

std::optional<torch::jit::Stack> bind(lua_State* L, const Arguments& given, const c10::FunctionSchema& schema,
                                      std::string& why) {
  const auto& wanted = schema.arguments();
  const int most =
      static_cast<int>(std::count_if(wanted.begin(), wanted.end(), [](const auto& a) { return !a.kwarg_only(); }));
  if (given.positional > most) {
    why = "got " + std::to_string(given.positional) + " arguments, want at most " + std::to_string(most);
    return std::nullopt;
  }
  if (!names_fit(L, given, schema, why)) return std::nullopt;
  torch::jit::Stack stack;
  for (int i = 0; i < static_cast<int>(wanted.size()); ++i) {
    const c10::Argument& argument = wanted[i];
    int index = i < given.positional ? i + 1 : 0;
    if (!index && given.named) {
      lua_getfield(L, given.named, argument.name().c_str());
      index = lua_gettop(L);
    }
    const bool absent = !index || lua_isnil(L, index);
    if (absent && argument.default_value()) {
      stack.push_back(*argument.default_value());
    } else if (absent && argument.type()->kind() != c10::TypeKind::OptionalType) {
      why = "'" + argument.name() + "' is missing";
      return std::nullopt;
    } else if (absent) {
      stack.emplace_back();
    } else if (auto value = to_ivalue(L, index, argument, why)) {
      stack.push_back(std::move(*value));
    } else {
      why = "'" + argument.name() + "': " + why;
      return std::nullopt;
    }
    lua_settop(L, given.named ? given.named : given.positional);
  }
  return stack;
}

[[noreturn]] void no_overload(const std::string& name, const Overloads& overloads,
                              const std::vector<std::string>& reasons) {
  std::ostringstream schemas;
  constexpr size_t kMost = 4;
  for (size_t i = 0; i < overloads.size() && i < kMost; ++i)
    schemas << (i ? "\n         " : "") << overloads[i].schema();
  if (overloads.size() > kMost) schemas << "\n         … and " << overloads.size() - kMost << " more";
  throw Error(ErrorKind::shape, reasons[0]).key(name).help(schemas.str());
}

int call(lua_State* L, const std::string& qualified, const Overloads& overloads) {
  const Arguments given = split_arguments(L);
  std::vector<std::string> reasons;
  for (const c10::OperatorHandle& op : overloads) {
    std::string why;
    auto stack = bind(L, given, op.schema(), why);
    if (!stack) {
      reasons.push_back(why);
      continue;
    }
    {
      const InNative native;
      op.callBoxed(*stack);
    }
    for (const c10::IValue& result : *stack) push_ivalue(L, result);
    return static_cast<int>(stack->size());
  }
  no_overload(qualified, overloads, reasons);
}

/// An op as a closure; upvalue 1: its qualified name.
int call_op(lua_State* L) {
  return guarded(L, [&] {
    const std::string name = lua_tostring(L, lua_upvalueindex(1));
    return call(L, name, all_ops().at(name));
  });
}

/// ft.aten.NAME: looks the op up once and keeps its closure in the table.
int find(lua_State* L) {
  return guarded(L, [&] {
    const std::string name = text_argument(L, 2, "an op's name");
    push_op(L, name);
    lua_pushvalue(L, -1);
    lua_setfield(L, 1, name.c_str());
    return 1;
  });
}

std::optional<Error> read_c10(const std::exception& exception) {
  const auto* error = dynamic_cast<const c10::Error*>(&exception);
  if (!error) return std::nullopt;
  if (dynamic_cast<const c10::OutOfMemoryError*>(error))
    return Error(ErrorKind::memory, error->what_without_backtrace());
  return Error(ErrorKind::shape, error->what_without_backtrace());
}

}  // namespace

void push_op(lua_State* L, const std::string& name) {
  std::string qualified;
  if (!find_op(name, qualified)) {
    std::vector<std::string> names;
    for (const auto& [known, overloads] : all_ops())
      if (known.rfind("aten::", 0) == 0) names.push_back(known.substr(6));
    const std::string near = nearest(name, names);
    throw Error(ErrorKind::config, "no op '" + name + "'")
        .key("ft.aten")
        .help(near.empty() ? "" : "did you mean '" + near + "'?");
  }
  lua_pushstring(L, qualified.c_str());
  lua_pushcclosure(L, call_op, 1);
}

void bind_aten(lua_State* L) {
  set_foreign_exception(read_c10);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  add_function(L, "__index", find);
  lua_setmetatable(L, -2);
  lua_setfield(L, -2, "aten");
}

}  // namespace ft
