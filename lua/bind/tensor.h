#pragma once
/// Tensors in Lua: a handle with shape, dtype, item, tolist and every ATen op as a method; and Lua arguments as
/// IValues. Shared by the ATen binder and the wrappers that take tensors.

#include <ATen/core/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

struct lua_State;

namespace ft {

void push_tensor(lua_State* state, at::Tensor tensor);

/// Tensors that Lua gets while it lives are let go when it dies, though their handles wait for the collector: a
/// forward's temporaries would otherwise pile up. Using one afterwards is an error.
class TensorScope {
 public:
  TensorScope();
  ~TensorScope();
  TensorScope(const TensorScope&) = delete;
  void add(const std::shared_ptr<at::Tensor>& tensor) { pushed_.push_back(tensor); }

 private:
  TensorScope* outer_;
  std::vector<std::weak_ptr<at::Tensor>> pushed_;
};

at::Tensor check_tensor(lua_State* state, int index);
bool is_tensor(lua_State* state, int index);

/// The Lua value at `index` as an argument of that type, or nothing with `why` set ("got text, want Tensor").
std::optional<c10::IValue> to_ivalue(lua_State* state, int index, const c10::Argument& argument, std::string& why);

/// Pushes a result: tensors as handles, numbers, text and lists as Lua data.
void push_ivalue(lua_State* state, const c10::IValue& value);

/// ft.aten.NAME as a function on the stack; an error value is raised for a name that no op has.
void push_op(lua_State* state, const std::string& name);

/// ATen's name of a dtype, as plans spell it ("fp32"); "complex64" and the like as ATen says.
std::string dtype_text(at::ScalarType type);

}  // namespace ft
