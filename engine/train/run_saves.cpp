#include "engine/train/run_saves.h"

#include <cmath>

#include "engine/device/log.h"
#include "engine/error/error.h"
#include "engine/formats/checkpoint.h"
#include "engine/formats/checkpoint_links.h"

namespace ft {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point then) { return std::chrono::duration<double>(Clock::now() - then).count(); }

StateDict state_dict(const Value& save) {
  return save.get("state_dict_type", "SHARDED_STATE_DICT") == "FULL_STATE_DICT" ? StateDict::full : StateDict::sharded;
}

// save.every in steps: a share of all steps is rounded up, as transformers' Trainer does.
int64_t every_of(const Value& save, int64_t total_steps) {
  const double every = save.get("every", 0.0);
  return static_cast<int64_t>(every < 1 ? std::ceil(every * static_cast<double>(total_steps)) : every);
}

}  // namespace

RunSaves::RunSaves(const Value& plan, std::shared_ptr<ProcessGroup> group, std::shared_ptr<ComputeDevice> device,
                   int64_t total_steps, std::function<Moment()> moment)
    : save_(plan.at("save")),
      every_(every_of(save_, total_steps)),
      group_(std::move(group)),
      saver_(group_, std::move(device), state_dict(save_)),
      moment_(std::move(moment)) {}

void RunSaves::open(std::filesystem::path run_directory, std::optional<int64_t> from) {
  run_directory_ = std::move(run_directory);
  if (!from) return;
  saved_step_ = *from;
  at_ = run_directory_ / ("checkpoint-" + std::to_string(*from));
  other_course_ = true;
}

bool RunSaves::minutes_are_over() const {
  const double minutes = save_.get("every_minutes", 0.0);
  return minutes > 0 && seconds_since(saved_at_) >= 60 * minutes;
}

bool RunSaves::due(int64_t step, int64_t steps_per_epoch) const {
  if (step <= 0 || step == saved_step_) return false;
  if (every_ > 0) return step % every_ == 0;
  const int64_t per_epoch = save_.get("per_epoch", 0);
  // Even parts of an epoch, the last of which ends with it.
  return step * per_epoch / steps_per_epoch > (step - 1) * per_epoch / steps_per_epoch;
}

void RunSaves::between_steps(int64_t step, int64_t steps_per_epoch, bool asked) {
  const bool begins = due(step, steps_per_epoch) || (asked && step > 0 && step != saved_step_);
  if (saver_.at_work() && (begins || saver_.done_everywhere())) complete();
  if (begins) attempt([&] { begin(step); });
}

std::string RunSaves::save(int64_t step) {
  const bool saved = attempt([&] {
    end();
    if (step == saved_step_) return;
    begin(step);
    end();
  });
  return saved ? at_.string() : "";
}

void RunSaves::complete() {
  attempt([&] { end(); });
}

void RunSaves::finish(int64_t step) {
  complete();
  if (saved_step_ == step) return;
  begin(step);
  end();
}

void RunSaves::begin(int64_t step) {
  Moment moment = moment_();
  if (validated_.step == step && std::isfinite(validated_.loss)) moment.header.set(kValidationLoss, validated_.loss);
  at_ = run_directory_ / ("checkpoint-" + std::to_string(step));
  if (saver_.start(at_, std::move(moment.pieces), std::move(moment.header), other_course_)) saved_at_ = Clock::now();
  saved_step_ = step;
}

void RunSaves::end() {
  if (!saver_.at_work()) return;
  const auto started = Clock::now();
  saver_.finish([&] { settle(); });
  other_course_ = false;
  seconds_ += seconds_since(started);
}

/// On rank 0, once the checkpoint is whole.
void RunSaves::settle() {
  for (const std::string& failed : link_checkpoint(at_)) log_warning("a checkpoint could not be linked: " + failed);
  if (other_course_) remove_checkpoints_after(run_directory_, *checkpoint_step(at_));
  prune_checkpoints(run_directory_, save_.get("keep", 0));
}

/// @return false where a checkpoint could not be written, and the plan says to go on without it.
bool RunSaves::attempt(const std::function<void()>& action) try {
  action();
  return true;
} catch (const Error& error) {
  if (error.kind() != ErrorKind::io || save_.get("on_error", "stop") != "continue") throw;
  saved_step_ = -1;
  if (group_->rank() == 0)
    log_warning(std::string("a checkpoint could not be written, training goes on (save.on_error): ") + error.what());
  return false;
}

}  // namespace ft
