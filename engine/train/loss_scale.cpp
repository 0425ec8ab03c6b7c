#include "engine/train/loss_scale.h"

#include <cmath>
#include <string>

#include "engine/device/figures.h"
#include "engine/device/log.h"

namespace ft {

LossScale::LossScale(const Value& plan, DType compute) : on_(compute == DType::f16) {
  const Value none = Value::map();
  const Value* given = plan.find("loss_scale");
  const Value& options = given && given->is_map() ? *given : none;
  scale_ = options.get("init", 65536.0);
  growth_ = options.get("growth", 2.0);
  backoff_ = options.get("backoff", 0.5);
  growth_interval_ = options.get("growth_interval", int64_t{2000});
}

void LossScale::stepped() {
  if (!on_ || ++finite_steps_ < growth_interval_) return;
  finite_steps_ = 0;
  // As in GradScaler: the scale itself, which multiplies an fp32 loss, stays finite.
  if (std::isfinite(static_cast<float>(scale_ * growth_))) scale_ *= growth_;
}

void LossScale::overflowed(int64_t step) {
  scale_ *= backoff_;
  finite_steps_ = 0;
  log_info("step " + std::to_string(step) + ": gradients overflowed in fp16; skipped, the loss scale is now " +
           short_text(scale_));
}

Value LossScale::state() const {
  return on_ ? Value::map({{"scale", scale_}, {"finite_steps", finite_steps_}}) : Value();
}

void LossScale::restore(const Value& state) {
  if (!on_ || !state.is_map()) return;
  scale_ = state.at("scale").as_number();
  finite_steps_ = state.at("finite_steps").as_integer();
}

}  // namespace ft
