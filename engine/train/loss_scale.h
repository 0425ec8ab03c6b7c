#pragma once
/// Dynamic loss scaling, for compute in fp16: the loss is multiplied so that small gradients do not vanish, the
/// gradients are divided again before they are used, and a step whose gradients overflowed is left out. Constants and
/// rules are those of torch.amp.GradScaler. Owned by the run. Rank rule: every rank decides by the global gradient
/// norm, hence alike; nothing here talks to other ranks.

#include <cstdint>

#include "engine/schema/value.h"
#include "engine/tensor/dtype.h"

namespace ft {

class LossScale {
 public:
  /// @param plan loss_scale.init, growth, backoff, growth_interval.   @param compute scales in fp16 alone
  LossScale(const Value& plan, DType compute);

  bool on() const { return on_; }
  double scale() const { return on_ ? scale_ : 1.0; }
  /// A step with finite gradients: after growth_interval of them in a row the scale grows.
  void stepped();
  /// A step whose gradients overflowed: the scale falls, and the log says so.
  void overflowed(int64_t step);
  /// What a checkpoint keeps; null where nothing is scaled.
  Value state() const;
  void restore(const Value& state);

 private:
  bool on_;
  double scale_, growth_, backoff_;
  int64_t growth_interval_, finite_steps_ = 0;
};

}  // namespace ft
