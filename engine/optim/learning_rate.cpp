#include "engine/optim/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "engine/error/error.h"

namespace ft {
namespace {

[[noreturn]] void refuse(const char* key, const Value& block, const std::string& message) {
  const Value* value = block.find(key);
  Error error(ErrorKind::config, message);
  error.key(std::string("optimizer.schedule.") + key);
  const Origin& origin = value && value->origin.line ? value->origin : block.origin;
  if (origin.line) error.at(origin.str());
  throw error;
}

int64_t warmup_steps(const Value& schedule, int64_t total) {
  const double warmup = schedule.get("warmup", 0.0);
  if (!(warmup >= 0)) refuse("warmup", schedule, "got " + describe(Value(warmup)) + ", want 0 or more");
  // transformers' TrainingArguments.get_warmup_steps rounds the share up.
  return static_cast<int64_t>(warmup < 1 ? std::ceil(static_cast<double>(total) * warmup) : warmup);
}

// The share of the peak rate after the warm-up, from 1 to 0.
double decay(const std::string& kind, int64_t done, int64_t length) {
  const double progress = static_cast<double>(done) / static_cast<double>(std::max<int64_t>(1, length));
  if (kind == "linear") return std::max(0.0, 1.0 - progress);
  return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * std::min(1.0, progress))));
}

}  // namespace

double learning_rate(const Value& schedule, double base_lr, int64_t step, int64_t total) {
  const std::string kind = schedule.get("kind", "constant");
  if (kind != "constant" && kind != "linear" && kind != "cosine")
    refuse("kind", schedule, "got '" + kind + "', want one of constant, linear, cosine");
  const int64_t warmup = warmup_steps(schedule, total);
  const double least = schedule.get("min_lr_ratio", 0.0);
  if (!(least >= 0 && least <= 1)) refuse("min_lr_ratio", schedule, "got " + describe(Value(least)) + ", want 0 to 1");
  if (step < warmup) return base_lr * static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, warmup));
  if (kind == "constant") return base_lr;
  return base_lr * (least + (1.0 - least) * decay(kind, step - warmup, total - warmup));
}

}  // namespace ft
