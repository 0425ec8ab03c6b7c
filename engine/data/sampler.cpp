#include "engine/data/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "engine/error/error.h"
#include "engine/tensor/counter_random.h"

namespace ft {

const char* to_string(Remainder choice) {
  switch (choice) {
    case Remainder::pad:
      return "pad";
    case Remainder::drop:
      return "drop";
    case Remainder::wrap:
      return "wrap";
  }
  return "unknown";
}

Remainder parse_remainder(const std::string& name) {
  for (const Remainder choice : {Remainder::pad, Remainder::drop, Remainder::wrap})
    if (name == to_string(choice)) return choice;
  throw Error(ErrorKind::config, "got '" + name + "', want pad, drop or wrap").key("remainder");
}

Sampler::Sampler(int64_t num_rows, SamplerOptions options) : num_rows_(num_rows), options_(options) {
  const SamplerOptions& o = options_;
  FT_CHECK(o.world > 0 && o.rank >= 0 && o.rank < o.world, fmt::format("rank {} of {}", o.rank, o.world));
  if (o.micro < 1 || o.total < 1 || o.total % (o.micro * o.world) != 0)
    throw Error(ErrorKind::config, fmt::format("got total = {} with micro = {} on {} ranks, want a multiple of {}",
                                               o.total, o.micro, o.world, std::max<int64_t>(o.micro, 1) * o.world))
        .key("batch.total")
        .help("each step, every rank runs total / (micro * ranks) micro batches");
  if (!(o.epochs > 0) && o.max_steps <= 0)
    throw Error(ErrorKind::config, fmt::format("got {}, want more than 0", o.epochs)).key("epochs");
  if (num_rows <= 0) throw Error(ErrorKind::format, "no rows to sample from");
  const bool drop = o.remainder == Remainder::drop;
  steps_per_epoch_ = drop ? num_rows / o.total : (num_rows + o.total - 1) / o.total;
  if (steps_per_epoch_ == 0)
    throw Error(ErrorKind::config,
                fmt::format("{} rows do not fill one step of {}, and remainder = drop", num_rows, o.total))
        .key("batch.total")
        .help("lower batch.total, or set remainder to pad or wrap");
  constexpr double kRounding = 1e-9;  // 0.1 * 30 must be 3 steps, not 4
  total_steps_ =
      o.max_steps > 0
          ? o.max_steps
          : std::max<int64_t>(
                1, static_cast<int64_t>(std::ceil(o.epochs * static_cast<double>(steps_per_epoch_) - kRounding)));
}

/// Fisher and Yates' shuffle, written out: std::shuffle draws differently in each standard library.
void Sampler::order_epoch(int64_t epoch) {
  if (ordered_epoch_ == epoch) return;
  ordered_epoch_ = epoch;
  order_.resize(static_cast<size_t>(num_rows_));
  std::iota(order_.begin(), order_.end(), 0);
  if (!options_.shuffle) return;
  const CounterRandom random(options_.seed, "data.order." + std::to_string(epoch));
  for (size_t i = order_.size() - 1; i > 0; --i) std::swap(order_[i], order_[random.below(i, i + 1)]);
}

bool Sampler::next() {
  if (step_ >= total_steps_) return false;
  order_epoch(step_ / steps_per_epoch_);
  const int64_t first = step_ % steps_per_epoch_ * options_.total;
  ++step_;
  window_.clear();
  for (int64_t j = first; j < first + options_.total; ++j) {
    const bool beyond = j >= num_rows_;
    window_.push_back(beyond && options_.remainder == Remainder::pad ? kNoRow
                                                                     : order_[static_cast<size_t>(j % num_rows_)]);
  }
  const int64_t micro = options_.micro, world = options_.world;
  micro_batches_.assign(static_cast<size_t>(options_.total / (micro * world)), {});
  for (int64_t j = 0; j < options_.total; ++j)
    if (j / micro % world == options_.rank)
      micro_batches_[static_cast<size_t>(j / (micro * world))].push_back(window_[j]);
  return true;
}

double Sampler::epoch() const { return static_cast<double>(step_) / static_cast<double>(steps_per_epoch_); }

Sampler::Position Sampler::position() const { return {step_ / steps_per_epoch_, step_ % steps_per_epoch_}; }

void Sampler::restore(const Position& position) {
  const int64_t step = position.epoch * steps_per_epoch_ + position.window;
  if (position.epoch < 0 || position.window < 0 || position.window >= steps_per_epoch_ || step > total_steps_)
    throw Error(ErrorKind::format,
                fmt::format("the saved position, epoch {} window {}, lies outside this run's {} steps of {} an epoch",
                            position.epoch, position.window, total_steps_, steps_per_epoch_))
        .help("data, batch.total or epochs differ from those of the run that saved it");
  step_ = step;
}

std::string Sampler::remainder_report() const {
  const int64_t left = num_rows_ % options_.total;
  if (left == 0) return fmt::format("{} rows fill {} steps an epoch, nothing remains", num_rows_, steps_per_epoch_);
  std::string head =
      fmt::format("{} of {} rows do not fill an epoch's last step of {}: ", left, num_rows_, options_.total);
  switch (options_.remainder) {
    case Remainder::pad:
      return head + fmt::format("padded with {} rows of no weight", options_.total - left);
    case Remainder::drop:
      return head + (options_.shuffle ? "left out, others each epoch" : "left out");
    case Remainder::wrap:
      return head + fmt::format("filled with the epoch's first {} rows again", options_.total - left);
  }
  return head;
}

}  // namespace ft
