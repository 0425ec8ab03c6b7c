#pragma once
/// Native objects in Lua: a userdata holds a type tag and a shared_ptr; a weak table gives one userdata per object.
/// After :release() any use is an error. Collection frees this process's memory only, never anything that other ranks
/// must take part in, since ranks collect at different times.

#include <cstdint>
#include <functional>
#include <lua.hpp>
#include <memory>
#include <string>
#include <vector>

namespace ft {

/// What Lua sees of a native type. One static object per type, in the file that binds it.
struct HandleClass {
  const char* name;                                    ///< "Tensor"
  std::vector<luaL_Reg> methods;                       ///< and metamethods, whose names begin with "__"
  std::function<std::string(const void*)> describe{};  ///< for tostring; the name alone without it
  std::function<int64_t(const void*)> bytes{};         ///< native bytes it holds, for the collector
  lua_CFunction fallback =
      nullptr;  ///< called as (methods, name) for a name that is not a method; without it, an error
};

/// The class of a native type: specialise it beside the binding.
template <class T>
const HandleClass& handle_class();

/// Pushes the object's userdata, the same one as before where Lua still holds it; nil for a null pointer.
void push_object(lua_State* state, const HandleClass& type, std::shared_ptr<void> object);

/// The object at `index`.   @throws Error(config) "got number, want Tensor", or that it has been released.
std::shared_ptr<void> check_object(lua_State* state, int index, const HandleClass& type);

/// Whether the value at `index` is a handle of that class that has not been released.
bool is_object(lua_State* state, int index, const HandleClass& type);

template <class T>
void push_handle(lua_State* state, std::shared_ptr<T> object) {
  push_object(state, handle_class<T>(), std::const_pointer_cast<std::remove_const_t<T>>(std::move(object)));
}

template <class T>
std::shared_ptr<T> check_handle(lua_State* state, int index) {
  return std::static_pointer_cast<T>(check_object(state, index, handle_class<T>()));
}

template <class T>
bool is_handle(lua_State* state, int index) {
  return is_object(state, index, handle_class<T>());
}

}  // namespace ft
