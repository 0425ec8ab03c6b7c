#include "engine/optim/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr const char* kKinds[] = {"constant", "linear", "cosine", "inverse_sqrt", "wsd"};

[[noreturn]] void refuse(const char* key, const Value& block, const std::string& message) {
  const Value* value = block.find(key);
  Error error(ErrorKind::config, message);
  error.key(std::string("optimizer.schedule.") + key);
  const Origin& origin = value && value->origin.line ? value->origin : block.origin;
  if (origin.line) error.at(origin.str());
  throw error;
}

/// A number of steps, or a share of them below 1, which is rounded up as transformers'
/// TrainingArguments.get_warmup_steps does.
double steps_of(const Value& schedule, const char* key, double fallback, int64_t total) {
  const double given = schedule.get(key, fallback);
  if (!(given >= 0)) refuse(key, schedule, "got " + describe(Value(given)) + ", want 0 or more");
  return given < 1 ? std::ceil(static_cast<double>(total) * given) : std::floor(given);
}

struct Schedule {
  std::string kind;
  double warmup = 0;  // steps
  double least = 0;   // share of the rate at the end
  int64_t cycles = 1;
  double decay = 0;      // wsd: steps
  double timescale = 0;  // inverse_sqrt: steps
  std::string shape;     // wsd: of the decay
};

Schedule read(const Value& block, int64_t total) {
  Schedule s;
  s.kind = block.get("kind", "constant");
  if (std::find(std::begin(kKinds), std::end(kKinds), s.kind) == std::end(kKinds))
    refuse("kind", block, "got '" + s.kind + "', want one of constant, linear, cosine, inverse_sqrt, wsd");
  s.warmup = steps_of(block, "warmup", 0, total);
  s.least = block.get("min_lr_ratio", 0.0);
  if (!(s.least >= 0 && s.least <= 1))
    refuse("min_lr_ratio", block, "got " + describe(Value(s.least)) + ", want 0 to 1");
  s.cycles = block.get("cycles", 1);
  if (s.cycles < 1) refuse("cycles", block, "got " + std::to_string(s.cycles) + ", want 1 or more");
  s.decay = steps_of(block, "decay", 0.1, total);
  s.timescale = block.get("timescale", 0.0);
  if (!(s.timescale >= 0)) refuse("timescale", block, "got " + describe(Value(s.timescale)) + ", want more than 0");
  if (s.timescale == 0) s.timescale = s.warmup > 0 ? s.warmup : 10000;
  s.shape = block.get("decay_type", "cosine");
  if (s.shape != "linear" && s.shape != "cosine" && s.shape != "1-sqrt")
    refuse("decay_type", block, "got '" + s.shape + "', want one of linear, cosine, 1-sqrt");
  return s;
}

/// From 1 to 0 as `progress` goes from 0 to 1.
double fall(const std::string& shape, double progress) {
  if (shape == "linear") return 1.0 - progress;
  if (shape == "1-sqrt") return 1.0 - std::sqrt(progress);
  return 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
}

/// transformers' _get_wsd_scheduler_lambda; its floor holds in the warm-up too.
double wsd(const Schedule& s, double step, double total) {
  const double stable_end = total - s.decay;
  double factor = 1;
  if (step < s.warmup) {
    factor = step / s.warmup;
  } else if (step < stable_end) {
    return 1;
  } else if (step < std::max(stable_end, s.warmup) + s.decay) {
    factor = fall(s.shape, (step - std::max(stable_end, s.warmup)) / s.decay);
  } else {
    return s.least;
  }
  return std::max(0.0, s.least + (1.0 - s.least) * factor);
}

double factor_of(const Schedule& s, double step, double total) {
  if (s.kind == "wsd") return wsd(s, step, total);
  if (step < s.warmup) return step / std::max(1.0, s.warmup);
  if (s.kind == "constant") return 1;
  if (s.kind == "inverse_sqrt") return 1.0 / std::sqrt((step + s.timescale - s.warmup) / s.timescale);
  const double progress = (step - s.warmup) / std::max(1.0, total - s.warmup);
  if (progress >= 1) return s.least;
  const double within = s.kind == "linear" ? progress : std::fmod(static_cast<double>(s.cycles) * progress, 1.0);
  return s.least + (1.0 - s.least) * std::max(0.0, fall(s.kind, within));
}

}  // namespace

double learning_rate(const Value& schedule, double base_lr, int64_t step, int64_t total) {
  return base_lr * factor_of(read(schedule, total), static_cast<double>(step), static_cast<double>(total));
}

}  // namespace ft
