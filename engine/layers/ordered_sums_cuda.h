#pragma once
/// Part of the CUDA plugin: attention's backward in a fixed order of sums. One thread.

#include <ATen/Context.h>

namespace ft::cuda {

/// While it lives, Flash attention's backward adds in a fixed order; without it, by atomics. New tensors are not
/// filled, as LibTorch otherwise would in this mode.
class OrderedSums {
 public:
  OrderedSums() {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  }
  ~OrderedSums() {
    at::globalContext().setDeterministicAlgorithms(was_, was_warning_);
    at::globalContext().setDeterministicFillUninitializedMemory(filled_);
  }
  OrderedSums(const OrderedSums&) = delete;
  OrderedSums& operator=(const OrderedSums&) = delete;

 private:
  const bool was_ = at::globalContext().deterministicAlgorithms();
  const bool was_warning_ = at::globalContext().deterministicAlgorithmsWarnOnly();
  const bool filled_ = at::globalContext().deterministicFillUninitializedMemory();
};

}  // namespace ft::cuda
