#pragma once
/// A module whose forward is a Lua function (nn.module in stdlib/ft/module.lua). Its children are blocks like any
/// other; in Lua they are called: self.norm(x, ctx). Thread rule: as Module; the Lua state is that of the recipe, and
/// the same thread walks the schedule.

#include <memory>
#include <string>
#include <vector>

#include "engine/layers/builder.h"

struct lua_State;

namespace ft {

/// A child as Lua calls it; null once its model is gone.
struct LuaChild {
  Module* module = nullptr;
};

/// A forward's context as Lua passes it on; null once the forward has ended.
struct LuaContext {
  const Context* context = nullptr;
};

class LuaModule : public Module {
 public:
  /// @param description keys module (its class), instance (where its functions are kept), name, entries: a list of
  /// { key, block } and { key, shape, init, std } in the order of assignment
  /// @throws Error(config) where this process has no such instance: the recipe that states it is not running.
  LuaModule(lua_State* state, Builder& builder, const Value& description, const std::string& parent);
  ~LuaModule() override;

  /// Calls self:forward(x, ctx). @throws Error as the Lua code raised it, with its file and line; Error(shape) for a
  /// result that is no tensor of floats, or where a layer returns another shape or dtype than it was given.
  at::Tensor forward(const at::Tensor& x, const Context& context) override;

 private:
  struct Own {
    std::string key;
    Parameter* parameter;
  };
  void add_entry(Builder& builder, const Value& entry);
  void check_result(const at::Tensor& x, const at::Tensor& y) const;

  lua_State* state_;
  std::string class_;
  bool is_layer_;
  int self_ = 0;  // the registry's number of the Lua object
  std::vector<Own> own_;
  std::vector<std::shared_ptr<LuaChild>> children_;
};

}  // namespace ft
