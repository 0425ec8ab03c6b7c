#pragma once
/// Which line of the user's text a call or a key stands on. Lua reports the first line of a call; the line of a key
/// inside its table is found by reading on in the file. Used for messages alone: nothing depends on it being right.

#include <map>
#include <string>

#include "engine/schema/value.h"

struct lua_State;

namespace ft {

/// The first Lua frame outside the standard library; empty when there is none.
Origin caller(lua_State* state);

/// A key of a table in the text: its line, and with `key = opt.lr` the name "lr".
struct KeyPlace {
  int line = 0;
  std::string reference;
};

/// Keys of the table literal that a call starts on `origin`'s line, by dotted path ("batch.total"); unnamed values are
/// "[1]", "[2]", … Nested calls' tables count like plain ones. Empty when the file cannot be read.
/// @param call how the call is spelled ("ft.lora"), to find it among others on the line; "" for the line's first table.
std::map<std::string, KeyPlace> keys_of_literal(const Origin& origin, const std::string& call);

}  // namespace ft
