#pragma once
/// The trampoline of every bound function: the body may throw; the error is raised in Lua after the catch block has
/// ended. Only std::exception is caught: Lua's own errors travel as foreign exceptions through C++ frames (external
/// unwinding), and a `catch (...)` would swallow them.

#include <lua.hpp>
#include <optional>
#include <utility>

#include "lua/boundary/error_value.h"

namespace ft {

/// Runs `body`, which returns the number of values it pushed.
template <class Body>
int guarded(lua_State* L, Body&& body) {
  {
    std::optional<Error> failure;
    try {
      return std::forward<Body>(body)();
    } catch (const std::exception& exception) {
      failure = to_error(exception);
    }
    push_error(L, *failure);
  }  // the C++ side of the error is gone before Lua's begins
  raise(L);
}

}  // namespace ft
