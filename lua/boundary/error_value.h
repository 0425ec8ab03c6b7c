#pragma once
/// Errors on both sides of the boundary: an ft::Error becomes a Lua table { kind, path, where, message, help, cause }
/// whose
/// __tostring is the message in its four parts, and back. The functions of this folder are the only callers of
/// lua_error.

#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "engine/error/error.h"
#include "engine/schema/fault.h"

struct lua_State;

namespace ft {

/// Reads an exception of another library into an Error (LibTorch's without its C++ backtrace); set once by lua/bind.
using ForeignException = std::optional<Error> (*)(const std::exception&);
void set_foreign_exception(ForeignException reader);

/// The kind of a name such as "io"; config for any other.
ErrorKind error_kind(const std::string& name);

/// The Error that an exception stands for.
Error to_error(const std::exception& exception);

/// Pushes the error's table. An error that names no place of the user's gets the first Lua frame outside the standard
/// library.
void push_error(lua_State* state, const Error& error);

/// Pushes an error that stands for several faults, printed together.
void push_faults(lua_State* state, const std::vector<Fault>& faults);

/// Pops the table (or text) on top and raises it.
[[noreturn]] void raise(lua_State* state);

/// Reads an error value (a table of ours, or Lua's own text "file:line: message") that stands at `index`.
Error read_error(lua_State* state, int index);

}  // namespace ft
