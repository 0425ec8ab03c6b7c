// Lua values to and from IValues, by the type that an op's schema states. Nothing is guessed: what does not fit is
// said.
#include <ATen/core/Tensor.h>
#include <ATen/core/jit_type.h>
#include <c10/core/Device.h>

#include <cmath>
#include <lua.hpp>

#include "engine/parallel/scalar_type.h"
#include "lua/bind/tensor.h"

namespace ft {
namespace {

using c10::TypeKind;

struct Wanted {
  lua_State* L;
  int index;
  std::string& why;

  std::optional<c10::IValue> refuse(const std::string& want) const {
    why = std::string("got ") + (is_tensor(L, index) ? "Tensor" : luaL_typename(L, index)) + ", want " + want;
    return std::nullopt;
  }
  std::optional<int64_t> integer() const {
    if (lua_type(L, index) != LUA_TNUMBER) return std::nullopt;
    const double v = lua_tonumber(L, index);
    if (std::trunc(v) != v) return std::nullopt;
    return static_cast<int64_t>(v);
  }
};

std::optional<at::ScalarType> named_type(const std::string& name) {
  if (const auto known = dtype_from_name(name)) return scalar_type(*known);
  return std::nullopt;
}

std::optional<c10::IValue> read(const Wanted& wanted, const c10::Type& type, const std::string& text);

template <class Item, class Read>
std::optional<c10::List<Item>> read_list(const Wanted& wanted, Read&& one) {
  lua_State* L = wanted.L;
  c10::List<Item> items;
  for (size_t i = 1; i <= lua_objlen(L, wanted.index); ++i) {
    lua_rawgeti(L, wanted.index, static_cast<int>(i));
    const std::optional<Item> item = one(Wanted{L, lua_gettop(L), wanted.why});
    lua_pop(L, 1);
    if (!item) return std::nullopt;
    items.push_back(*item);
  }
  return items;
}

std::optional<double> number(const Wanted& w) {
  return lua_type(w.L, w.index) == LUA_TNUMBER ? std::optional<double>(lua_tonumber(w.L, w.index)) : std::nullopt;
}
std::optional<bool> boolean(const Wanted& w) {
  return lua_isboolean(w.L, w.index) ? std::optional<bool>(lua_toboolean(w.L, w.index) != 0) : std::nullopt;
}
std::optional<at::Tensor> tensor(const Wanted& w) {
  return is_tensor(w.L, w.index) ? std::optional<at::Tensor>(check_tensor(w.L, w.index)) : std::nullopt;
}

std::optional<c10::IValue> list(const Wanted& w, const c10::ListType& type, const std::string& text) {
  const c10::Type& item = *type.getElementType();
  // ATen's int[1] takes a single number as well; the schema's text shows it.
  if (!lua_istable(w.L, w.index)) {
    if (item.kind() == TypeKind::IntType && w.integer()) return c10::IValue(c10::List<int64_t>({*w.integer()}));
    return w.refuse(text);
  }
  std::optional<c10::IValue> out;
  const auto take = [&](auto items) {
    if (items) out = c10::IValue(std::move(*items));
  };
  switch (item.kind()) {
    case TypeKind::IntType:
    case TypeKind::SymIntType:
      take(read_list<int64_t>(w, [](const Wanted& one) { return one.integer(); }));
      break;
    case TypeKind::FloatType:
      take(read_list<double>(w, number));
      break;
    case TypeKind::BoolType:
      take(read_list<bool>(w, boolean));
      break;
    case TypeKind::TensorType:
      take(read_list<at::Tensor>(w, tensor));
      break;
    case TypeKind::OptionalType: {
      if (item.cast<c10::OptionalType>()->getElementType()->kind() != TypeKind::TensorType)
        return w.refuse(text + " (which Lua cannot state)");
      c10::List<std::optional<at::Tensor>> items;
      for (size_t i = 1; i <= lua_objlen(w.L, w.index); ++i) {
        lua_rawgeti(w.L, w.index, static_cast<int>(i));
        const bool is = is_tensor(w.L, -1);
        items.push_back(is ? std::optional<at::Tensor>(check_tensor(w.L, -1)) : std::nullopt);
        lua_pop(w.L, 1);
      }
      out = c10::IValue(std::move(items));
      break;
    }
    default:
      return w.refuse(text + " (which Lua cannot state)");
  }
  return out ? out : w.refuse(text);
}

/// Numbers stand for dtypes, layouts and memory formats in a schema's plain type; the real type tells them apart.
std::optional<c10::IValue> named_constant(const Wanted& w, const c10::Type& real) {
  if (lua_type(w.L, w.index) != LUA_TSTRING) return std::nullopt;
  const std::string text = lua_tostring(w.L, w.index);
  if (real.kind() == TypeKind::ScalarTypeType)
    if (const auto type = named_type(text)) return c10::IValue(static_cast<int64_t>(*type));
  if (real.kind() == TypeKind::MemoryFormatType && text == "contiguous")
    return c10::IValue(static_cast<int64_t>(at::MemoryFormat::Contiguous));
  if (real.kind() == TypeKind::MemoryFormatType && text == "channels_last")
    return c10::IValue(static_cast<int64_t>(at::MemoryFormat::ChannelsLast));
  if (real.kind() == TypeKind::LayoutType && text == "strided") return c10::IValue(static_cast<int64_t>(at::kStrided));
  return std::nullopt;
}

std::optional<c10::IValue> read(const Wanted& w, const c10::Type& type, const std::string& text) {
  lua_State* L = w.L;
  switch (type.kind()) {
    case TypeKind::OptionalType:
      if (lua_isnoneornil(L, w.index)) return c10::IValue();
      return read(w, *type.cast<c10::OptionalType>()->getElementType(), text);
    case TypeKind::TensorType:
      if (const auto value = tensor(w)) return c10::IValue(*value);
      return w.refuse("Tensor");
    case TypeKind::IntType:
    case TypeKind::SymIntType:
      if (const auto value = w.integer()) return c10::IValue(*value);
      return w.refuse("an integer");
    case TypeKind::FloatType:
      if (const auto value = number(w)) return c10::IValue(*value);
      return w.refuse("a number");
    case TypeKind::NumberType:
      if (const auto value = w.integer()) return c10::IValue(at::Scalar(*value));
      if (const auto value = number(w)) return c10::IValue(at::Scalar(*value));
      if (const auto value = boolean(w)) return c10::IValue(at::Scalar(*value));
      return w.refuse("a number");
    case TypeKind::BoolType:
      if (const auto value = boolean(w)) return c10::IValue(*value);
      return w.refuse("true or false");
    case TypeKind::StringType:
      if (lua_type(L, w.index) == LUA_TSTRING) return c10::IValue(std::string(lua_tostring(L, w.index)));
      return w.refuse("text");
    case TypeKind::DeviceObjType:
      if (lua_type(L, w.index) == LUA_TSTRING) return c10::IValue(c10::Device(std::string(lua_tostring(L, w.index))));
      return w.refuse("a device such as \"cpu\"");
    case TypeKind::ListType:
      return list(w, *type.cast<c10::ListType>(), text);
    default:
      return w.refuse(text + " (which Lua cannot state)");
  }
}

}  // namespace

std::optional<c10::IValue> to_ivalue(lua_State* L, int index, const c10::Argument& argument, std::string& why) {
  const Wanted wanted{L, index, why};
  c10::TypePtr real = argument.real_type();
  if (real->kind() == TypeKind::OptionalType) real = real->cast<c10::OptionalType>()->getElementType();
  if (auto constant = named_constant(wanted, *real)) return constant;
  if (real->kind() == TypeKind::ScalarTypeType && !lua_isnoneornil(L, index))
    return wanted.refuse("a dtype such as \"fp32\"");
  return read(wanted, *argument.type(), argument.type()->str());
}

void push_ivalue(lua_State* L, const c10::IValue& value) {
  if (value.isTensor()) {
    value.toTensor().defined() ? push_tensor(L, value.toTensor()) : lua_pushnil(L);
  } else if (value.isInt() || value.isSymInt()) {
    lua_pushnumber(L, static_cast<double>(value.isInt() ? value.toInt() : value.toSymInt().expect_int()));
  } else if (value.isDouble()) {
    lua_pushnumber(L, value.toDouble());
  } else if (value.isBool()) {
    lua_pushboolean(L, value.toBool());
  } else if (value.isScalar()) {
    lua_pushnumber(L, value.toScalar().toDouble());
  } else if (value.isString()) {
    lua_pushlstring(L, value.toStringRef().data(), value.toStringRef().size());
  } else if (value.isList()) {
    const auto items = value.toListRef();
    lua_createtable(L, static_cast<int>(items.size()), 0);
    for (size_t i = 0; i < items.size(); ++i) {
      push_ivalue(L, items[i]);
      lua_rawseti(L, -2, static_cast<int>(i) + 1);
    }
  } else {
    lua_pushnil(L);
  }
}

}  // namespace ft
