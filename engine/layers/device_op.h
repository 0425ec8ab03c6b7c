#pragma once
/// A typed handle to an op whose kernel the dispatcher chooses by its arguments' device; op_signatures.h has the types.
/// Used by autograd's nodes: `static const DeviceOp<signature::DropoutForward> op("ft::dropout_forward"); op(x, keys,
/// p);`   @throws LibTorch's error where no op of that name and signature is registered.

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
