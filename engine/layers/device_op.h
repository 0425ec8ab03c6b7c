#pragma once
/// A typed handle to a device kernel that the dispatcher chooses by its arguments' device, from the C++ signature of
/// the CPU kernel. Used by the autograd nodes of this folder: `static const DeviceOp<decltype(cpu::f)> op("ft::f");
/// op(x);`

#include <ATen/core/dispatch/Dispatcher.h>

namespace ft {

template <class Signature>
class DeviceOp;

template <class R, class... A>
class DeviceOp<R(A...)> {
 public:
  explicit DeviceOp(const char* name)
      : handle_(c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<R(A...)>()) {}
  R operator()(A... arguments) const { return handle_.call(std::forward<A>(arguments)...); }

 private:
  c10::TypedOperatorHandle<R(A...)> handle_;
};

}  // namespace ft
