// Tensor: shape, dtype, item, tolist, arithmetic; every other method is the ATen op of that name. Dims are ATen's:
// 0-based.
#include <ATen/ops/tensor.h>

#include <lua.hpp>
#include <utility>

#include "engine/error/error.h"
#include "engine/formats/safetensors.h"
#include "engine/parallel/scalar_type.h"
#include "lua/bind/native.h"
#include "lua/bind/tensor.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/handle.h"

namespace ft {
namespace {

TensorScope* innermost = nullptr;  // of the one thread that runs Lua

constexpr int64_t kMostListed = 1 << 20;  // elements that tolist copies

std::string tensor_text(const void* object) {
  const auto& tensor = *static_cast<const at::Tensor*>(object);
  if (!tensor.defined()) return "Tensor (let go)";
  return "Tensor " + shape_text(tensor.sizes()) + " " + dtype_text(tensor.scalar_type()) +
         (tensor.is_cpu() ? "" : " " + tensor.device().str());
}

int shape(lua_State* L) {
  return guarded(L, [&] {
    const at::Tensor tensor = check_tensor(L, 1);
    lua_createtable(L, static_cast<int>(tensor.dim()), 0);
    for (int64_t i = 0; i < tensor.dim(); ++i) {
      lua_pushnumber(L, static_cast<double>(tensor.size(i)));
      lua_rawseti(L, -2, static_cast<int>(i) + 1);
    }
    return 1;
  });
}

int dtype(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, dtype_text(check_tensor(L, 1).scalar_type()).c_str());
    return 1;
  });
}

int device(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, check_tensor(L, 1).device().str().c_str());
    return 1;
  });
}

int item(lua_State* L) {
  return guarded(L, [&] {
    const at::Tensor tensor = check_tensor(L, 1);
    if (tensor.numel() != 1) throw Error(ErrorKind::shape, "item wants one element, got " + tensor_text(&tensor));
    lua_pushnumber(L, tensor.item().toDouble());
    return 1;
  });
}

void push_list(lua_State* L, const double*& at, const at::Tensor& tensor, int64_t dim) {
  if (dim == tensor.dim()) {
    lua_pushnumber(L, *at++);
    return;
  }
  luaL_checkstack(L, 4, "a nested list");
  lua_createtable(L, static_cast<int>(tensor.size(dim)), 0);
  for (int64_t i = 0; i < tensor.size(dim); ++i) {
    push_list(L, at, tensor, dim + 1);
    lua_rawseti(L, -2, static_cast<int>(i) + 1);
  }
}

int tolist(lua_State* L) {
  return guarded(L, [&] {
    const at::Tensor tensor = check_tensor(L, 1);
    if (tensor.numel() > kMostListed)
      throw Error(ErrorKind::config,
                  "tolist copies at most " + std::to_string(kMostListed) + " elements, got " + tensor_text(&tensor));
    const at::Tensor flat = tensor.detach().to(at::kDouble).to(at::kCPU).contiguous();
    const double* values = flat.const_data_ptr<double>();
    push_list(L, values, flat, 0);
    return 1;
  });
}

/// Reads nested lists of numbers, row-major.
void read_list(lua_State* L, int index, size_t depth, std::vector<int64_t>& shape, std::vector<double>& values) {
  if (lua_type(L, index) == LUA_TNUMBER) {
    if (depth != shape.size()) throw Error(ErrorKind::shape, "ft.tensor wants lists of equal depth");
    values.push_back(lua_tonumber(L, index));
    return;
  }
  if (!lua_istable(L, index))
    throw Error(ErrorKind::config, std::string("ft.tensor wants numbers, got ") + luaL_typename(L, index));
  const auto size = static_cast<int64_t>(lua_objlen(L, index));
  if (depth == shape.size() && values.empty()) shape.push_back(size);
  if (depth >= shape.size() || shape[depth] != size)
    throw Error(ErrorKind::shape, "ft.tensor wants lists of equal length");
  luaL_checkstack(L, 4, "a nested list");
  for (int64_t i = 1; i <= size; ++i) {
    lua_rawgeti(L, index, static_cast<int>(i));
    read_list(L, lua_gettop(L), depth + 1, shape, values);
    lua_pop(L, 1);
  }
}

/// native.tensor({{1, 2}, {3, 4}}, "fp32") -> Tensor
int make_tensor(lua_State* L) {
  return guarded(L, [&] {
    std::vector<int64_t> shape;
    std::vector<double> values;
    read_list(L, 1, 0, shape, values);
    const std::string name = lua_isstring(L, 2) ? lua_tostring(L, 2) : "fp32";
    const auto type = dtype_from_name(name);
    if (!type) throw Error(ErrorKind::config, "no dtype '" + name + "'").key("ft.tensor");
    push_tensor(L, at::tensor(values, at::kDouble).reshape(shape).to(scalar_type(*type)));
    return 1;
  });
}

/// A method that is not one of the above is the op of that name.
int op_method(lua_State* L) {
  return guarded(L, [&] {
    push_op(L, text_argument(L, 2, "a method's name"));
    return 1;
  });
}

/// a + b and the like; either may be a number.
int arithmetic(lua_State* L, const char* op) {
  return guarded(L, [&] {
    if (!is_tensor(L, 1)) {  // 2 * x: ATen's ops take the tensor first
      const bool swaps = std::string(op) == "add" || std::string(op) == "mul";
      if (!swaps) push_tensor(L, check_tensor(L, 2).new_full({}, lua_tonumber(L, 1)));
      lua_pushvalue(L, swaps ? 2 : -1);
      lua_pushvalue(L, swaps ? 1 : 2);
      lua_replace(L, 2);
      lua_replace(L, 1);
      lua_settop(L, 2);
    }
    push_op(L, op);
    lua_insert(L, 1);
    lua_call(L, 2, 1);
    return 1;
  });
}

int add(lua_State* L) { return arithmetic(L, "add"); }
int sub(lua_State* L) { return arithmetic(L, "sub"); }
int mul(lua_State* L) { return arithmetic(L, "mul"); }
int div(lua_State* L) { return arithmetic(L, "div"); }
int negate(lua_State* L) {
  return guarded(L, [&] {
    push_tensor(L, check_tensor(L, 1).neg());
    return 1;
  });
}

}  // namespace

template <>
const HandleClass& handle_class<at::Tensor>() {
  static const HandleClass type{"Tensor",
                                {{"shape", shape},
                                 {"dtype", dtype},
                                 {"device", device},
                                 {"item", item},
                                 {"tolist", tolist},
                                 {"__add", add},
                                 {"__sub", sub},
                                 {"__mul", mul},
                                 {"__div", div},
                                 {"__unm", negate}},
                                tensor_text,
                                [](const void* object) {
                                  const auto& tensor = *static_cast<const at::Tensor*>(object);
                                  return tensor.has_storage() ? static_cast<int64_t>(tensor.storage().nbytes()) : 0;
                                },
                                op_method};
  return type;
}

std::string dtype_text(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "fp32";
    case at::kDouble:
      return "fp64";
    case at::kHalf:
      return "fp16";
    case at::kBFloat16:
      return "bf16";
    case at::kByte:
      return "uint8";
    case at::kChar:
      return "int8";
    case at::kShort:
      return "int16";
    case at::kInt:
      return "int32";
    case at::kLong:
      return "int64";
    case at::kBool:
      return "bool";
    default:
      return c10::toString(type);
  }
}

TensorScope::TensorScope() : outer_(std::exchange(innermost, this)) {}

TensorScope::~TensorScope() {
  innermost = outer_;
  for (const auto& pushed : pushed_)
    if (const auto tensor = pushed.lock()) tensor->reset();
}

void push_tensor(lua_State* L, at::Tensor tensor) {
  auto held = std::make_shared<at::Tensor>(std::move(tensor));
  if (innermost) innermost->add(held);
  push_handle(L, std::move(held));
}

at::Tensor check_tensor(lua_State* L, int index) {
  at::Tensor tensor = *check_handle<at::Tensor>(L, index);
  if (!tensor.defined())
    throw Error(ErrorKind::config, "a tensor of a forward is used after the forward has ended")
        .help("keep numbers instead: t:item(), t:tolist()");
  return tensor;
}
bool is_tensor(lua_State* L, int index) { return is_handle<at::Tensor>(L, index); }

void bind_tensor(lua_State* L) { add_function(L, "tensor", make_tensor); }

}  // namespace ft
