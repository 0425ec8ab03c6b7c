// What is wrong with what the user wrote, as the standard library gathers and raises it.
#include <cstdio>
#include <lua.hpp>

#include "engine/error/error.h"
#include "engine/schema/schema.h"
#include "lua/bind/native.h"
#include "lua/bind/option_table.h"
#include "lua/boundary/error_value.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/values.h"

namespace ft {
namespace {

Fault read_fault(const Value& table) {
  Fault fault;
  fault.warning = table.get("warning", false);
  fault.path = table.get("path", "");
  fault.message = table.get("message", "");
  fault.help = table.get("help", "");
  fault.rule = table.get("rule", "");
  fault.origin = {table.get("file", ""), static_cast<int>(table.get("line", 0))};
  return fault;
}

Value table_of(const Fault& fault) {
  return Value::map({{"warning", fault.warning},
                     {"path", fault.path},
                     {"message", fault.message},
                     {"help", fault.help},
                     {"rule", fault.rule},
                     {"file", fault.origin.file},
                     {"line", fault.origin.line}});
}

void push_list(lua_State* L, const std::vector<Fault>& faults) {
  Value::List list;
  for (const Fault& fault : faults) list.push_back(table_of(fault));
  push_value(L, Value(std::move(list)));
}

std::vector<Fault> list_at(lua_State* L, int index) {
  std::vector<Fault> faults;
  const Value list = to_value(L, index, "faults");
  for (const Value& entry : list.as_list()) faults.push_back(read_fault(entry));
  return faults;
}

/// native.faults(table) -> the faults that constructors left with it and what is in it:
/// { { warning=, path=, message=, help=, rule=, file=, line= }, … }
int faults_of(lua_State* L) {
  return guarded(L, [&] {
    std::vector<Fault> faults;
    to_value(L, 1, "", &faults);
    push_list(L, faults);
    return 1;
  });
}

/// native.raise_list{ {path=, message=, help=, rule=, file=, line=}, … }: raises several faults at once.
int raise_list(lua_State* L) {
  bool pushed = false;
  const int results = guarded(L, [&] {
    push_faults(L, list_at(L, 1));
    pushed = true;
    return 0;
  });
  if (pushed) raise(L);
  return results;
}

/// native.say(list): prints faults to stderr, on the rank that speaks.
int say(lua_State* L) {
  return guarded(L, [&] {
    const std::vector<Fault> faults = list_at(L, 1);
    if (!faults.empty() && !host_of(L).quiet) std::fprintf(stderr, "%s\n", render(faults).c_str());
    return 0;
  });
}

/// native.fault_values(list) -> the same as `check --json` prints them.
int fault_values(lua_State* L) {
  return guarded(L, [&] {
    Value::List list;
    for (const Fault& fault : list_at(L, 1)) list.push_back(as_value(fault));
    push_value(L, Value(std::move(list)));
    return 1;
  });
}

/// native.place(table, key, file, line): from now on that entry of the table was written there.
int place(lua_State* L) {
  return guarded(L, [&] {
    if (!lua_istable(L, 1)) throw Error(ErrorKind::config, "native.place wants a table");
    const Origin origin{text_argument(L, 3, "a file"), static_cast<int>(number_argument(L, 4, "a line"))};
    set_origin(L, 1, text_argument(L, 2, "a key"), origin);
    return 0;
  });
}

/// native.check({ {key, {kind=, …}}, … }, table, path) -> the declared entries of the table, read by their kinds;
/// faults. Text that a flag gave (its origin begins with --) is read as what the option wants.
int check_declared(lua_State* L) {
  return guarded(L, [&] {
    const Value declared = to_value(L, 1, "declared");
    Value given = to_value(L, 2, "");
    const std::string path = text_argument(L, 3, "a path");
    std::vector<Fault> faults;
    Value out = Value::map();
    for (const Value& entry : declared.as_list()) {
      const std::string key = entry.at("key").as_string();
      Value* value = given.find(key);
      if (!value || value->is_null()) continue;
      const bool flag = value->origin.file.rfind("--", 0) == 0;
      const size_t before = faults.size();
      check_option(read_option(key, entry.at("option")), *value,
                   flag           ? ""
                   : path.empty() ? key
                                  : path + "." + key,
                   faults, flag);
      if (faults.size() == before) out.set(key, *value);
    }
    push_value(L, out, true);
    push_list(L, faults);
    return 2;
  });
}

}  // namespace

void bind_faults(lua_State* L) {
  add_function(L, "faults", faults_of);
  add_function(L, "raise_list", raise_list);
  add_function(L, "say", say);
  add_function(L, "fault_values", fault_values);
  add_function(L, "place", place);
  add_function(L, "check", check_declared);
}

}  // namespace ft
