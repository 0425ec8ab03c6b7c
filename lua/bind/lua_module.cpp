#include "lua/bind/lua_module.h"

#include <lua.hpp>

#include "engine/error/error.h"
#include "engine/formats/safetensors.h"
#include "lua/bind/lua_clock.h"
#include "lua/bind/native.h"
#include "lua/bind/tensor.h"
#include "lua/boundary/error_value.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/handle.h"

namespace ft {
namespace {

const char kInstancesKey = 0;  // its address is the registry's key of the list of instances

/// Pushes the list of what nn.module's constructors made.
void push_instances(lua_State* L) {
  lua_pushlightuserdata(L, const_cast<char*>(&kInstancesKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_istable(L, -1)) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushlightuserdata(L, const_cast<char*>(&kInstancesKey));
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

/// native.keep_instance(table) -> its number, for the description
int keep_instance(lua_State* L) {
  return guarded(L, [&] {
    if (!lua_istable(L, 1)) throw Error(ErrorKind::config, "keep_instance wants a table");
    push_instances(L);
    const int number = static_cast<int>(lua_objlen(L, -1)) + 1;
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, number);
    lua_pushinteger(L, number);
    return 1;
  });
}

/// native.lua_seconds() -> seconds that forwards spent in Lua since the last call
int lua_seconds(lua_State* L) {
  return guarded(L, [&] {
    lua_pushnumber(L, LuaClock::take());
    return 1;
  });
}

const Context& context_at(lua_State* L, int index) {
  if (lua_isnoneornil(L, index))
    throw Error(ErrorKind::config, "a module is called with (x, ctx): the context is missing")
        .help("pass on the ctx that forward was given");
  const auto held = check_handle<LuaContext>(L, index);
  if (!held->context) throw Error(ErrorKind::config, "the ctx of a forward is used after the forward has ended");
  return *held->context;
}

/// child(x, ctx)
int call_child(lua_State* L) {
  return guarded(L, [&] {
    const auto child = check_handle<LuaChild>(L, 1);
    if (!child->module) throw Error(ErrorKind::config, "a module is used after its model has gone");
    const at::Tensor x = check_tensor(L, 2);
    const Context& context = context_at(L, 3);
    at::Tensor y;
    {
      const InNative native;
      y = child->module->forward(x, context);
    }
    push_tensor(L, std::move(y));
    return 1;
  });
}

int positions(lua_State* L) {
  return guarded(L, [&] {
    push_tensor(L, context_at(L, 1).positions);
    return 1;
  });
}

int training(lua_State* L) {
  return guarded(L, [&] {
    lua_pushboolean(L, context_at(L, 1).training);
    return 1;
  });
}

Init init_of(const Value& entry, const std::string& path) {
  const std::string kind = entry.get("init", "zeros");
  if (kind == "zeros") return {Init::Kind::zeros};
  if (kind == "ones") return {Init::Kind::ones};
  if (kind == "normal") return {Init::Kind::normal, entry.get("std", 0.02)};
  throw Error(ErrorKind::config, "got init '" + kind + "', want zeros, ones or normal").key(path);
}

std::string described(const at::Tensor& tensor) {
  return shape_text(tensor.sizes()) + " " + dtype_text(tensor.scalar_type());
}

}  // namespace

template <>
const HandleClass& handle_class<LuaChild>() {
  static const HandleClass type{"Module", {{"__call", call_child}}, [](const void* object) {
                                  const auto* child = static_cast<const LuaChild*>(object);
                                  return "Module " + (child->module ? child->module->name() : "(gone)");
                                }};
  return type;
}

template <>
const HandleClass& handle_class<LuaContext>() {
  static const HandleClass type{"Context", {{"positions", positions}, {"training", training}}};
  return type;
}

LuaModule::LuaModule(lua_State* state, Builder& builder, const Value& description, const std::string& parent)
    : Module(module_path(parent, description.get("name", ""))),
      state_(state),
      class_(description.get("module", "?")),
      is_layer_(parent.empty() && builder.in_layers()) {
  lua_State* L = state_;
  const int top = lua_gettop(L);
  push_instances(L);
  lua_rawgeti(L, -1, static_cast<int>(description.at("instance").as_integer()));
  bool known = lua_istable(L, -1);
  if (known) {
    lua_getfield(L, -1, "class");
    known = lua_isstring(L, -1) && class_ == lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  if (!known) {
    lua_settop(L, top);
    throw Error(ErrorKind::config, "its forward is the Lua module '" + class_ + "', which only its recipe states")
        .key(name())
        .help("evaluate in the recipe itself: run:evaluate(\"val\")");
  }
  for (const Value& entry : description.at("entries").as_list()) add_entry(builder, entry);
  lua_newtable(L);  // self, which finds what its constructor kept
  lua_createtable(L, 0, 1);
  lua_getfield(L, -3, "kept");
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
  size_t child = 0;
  for (const Value& entry : description.at("entries").as_list()) {
    if (!entry.find("block")) continue;
    push_handle(L, children_[child++]);
    lua_setfield(L, -2, entry.at("key").as_string().c_str());
  }
  self_ = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_settop(L, top);
}

LuaModule::~LuaModule() {
  for (const auto& child : children_) child->module = nullptr;
  luaL_unref(state_, LUA_REGISTRYINDEX, self_);
}

void LuaModule::add_entry(Builder& builder, const Value& entry) {
  const std::string key = entry.at("key").as_string();
  if (const Value* block = entry.find("block")) {
    children_.push_back(std::make_shared<LuaChild>(LuaChild{&add_child(builder.block(*block, name()))}));
    return;
  }
  std::vector<int64_t> shape;
  for (const Value& size : entry.at("shape").as_list()) shape.push_back(size.as_integer());
  const std::string path = module_path(name(), key);
  own_.push_back({key, &add_parameter(path, shape, builder.base_storage(), init_of(entry, path))});
}

at::Tensor LuaModule::forward(const at::Tensor& x, const Context& context) {
  lua_State* L = state_;
  const int top = lua_gettop(L);
  luaL_checkstack(L, 8, "a forward");
  const InLua lua;
  const TensorScope scope;  // what the forward made is let go at its end, whatever the collector thinks
  const auto held = std::make_shared<LuaContext>(LuaContext{&context});
  lua_rawgeti(L, LUA_REGISTRYINDEX, self_);
  for (const Own& own : own_) {
    push_tensor(L, own.parameter->value);
    lua_setfield(L, -2, own.key.c_str());
  }
  lua_getfield(L, -1, "forward");
  lua_insert(L, -2);
  push_tensor(L, x);
  push_handle(L, held);
  const int status = lua_pcall(L, 3, 1, 0);
  held->context = nullptr;
  if (status != 0) {
    Error error = read_error(L, lua_gettop(L));
    lua_settop(L, top);
    throw error.context(name() + " (" + class_ + ")");
  }
  at::Tensor y;
  if (is_tensor(L, -1)) y = check_tensor(L, -1);
  const std::string got = lua_isnil(L, -1) ? "nothing" : luaL_typename(L, -1);
  lua_settop(L, top);
  if (!y.defined())
    throw Error(ErrorKind::shape, "forward returned " + got + ", want a tensor").key(name() + " (" + class_ + ")");
  check_result(x, y);
  return y;
}

void LuaModule::check_result(const at::Tensor& x, const at::Tensor& y) const {
  const bool fits = is_layer_ ? y.sizes() == x.sizes() && y.scalar_type() == x.scalar_type() : y.is_floating_point();
  if (fits) return;
  throw Error(ErrorKind::shape, "forward returned " + described(y) + ", want " +
                                    (is_layer_ ? described(x) + ", as it was given" : "floating point numbers"))
      .key(name() + " (" + class_ + ")");
}

void bind_modules(lua_State* L) {
  add_function(L, "keep_instance", keep_instance);
  add_function(L, "lua_seconds", lua_seconds);
  set_lua_factory([L](Builder& builder, const Value& description, const std::string& parent) {
    return std::make_unique<LuaModule>(L, builder, description, parent);
  });
}

}  // namespace ft
