#pragma once
/// When a run saves, and what becomes of it: the plan's `save` block at work. Says at which steps a checkpoint is due,
/// has the saver write it behind the steps, links `latest` and `best`, and removes what is not kept. Owned by the run.
/// Rank rule: every rank makes the same calls; those that write are collective. One thread, the schedule's.

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/train/checkpoint_saver.h"

namespace ft {

class RunSaves {
 public:
  /// What a checkpoint of the present moment holds; `header` has its step.
  struct Moment {
    std::vector<SavedPiece> pieces;
    Value header;
  };

  /// @param plan its `save` block is read   @param total_steps what a share in save.every is of
  /// @param moment called when a checkpoint is begun
  RunSaves(const Value& plan, std::shared_ptr<ProcessGroup> group, std::shared_ptr<ComputeDevice> device,
           int64_t total_steps, std::function<Moment()> moment);

  /// Where checkpoints go.   @param from the step that the run goes on from
  void open(std::filesystem::path run_directory, std::optional<int64_t> from);
  /// True on a rank whose clock says that save.every_minutes are over. The ranks have to agree before they act on it.
  bool minutes_are_over() const;
  /// Between two steps: completes what every rank has written, and begins what is due after `step`.
  /// @param asked for by a user or the clock, on every rank alike
  void between_steps(int64_t step, int64_t steps_per_epoch, bool asked);
  /// Writes a checkpoint of this moment and waits.   @return its directory; empty where it could not be written and
  /// save.on_error is "continue"
  std::string save(int64_t step);
  /// Waits for what is being written; save.on_error says what a failure means.
  void complete();
  /// The last checkpoint of the run: nothing goes on without it.   @throws Error(io)
  void finish(int64_t step);
  /// The validation loss of the weights after `step`: counts for `best` where these are saved later.
  void validated(int64_t step, double loss) { validated_ = {step, loss}; }

  /// Returns when this rank's tensors may change. Not collective.
  void wait_for_reads() { seconds_ += saver_.wait_for_reads(); }
  double seconds() const { return seconds_; }  ///< waited since reset_seconds
  void reset_seconds() { seconds_ = 0; }

 private:
  struct Validated {
    int64_t step = -1;
    double loss = 0;
  };

  bool due(int64_t step, int64_t steps_per_epoch) const;
  void begin(int64_t step);
  void end();
  void settle();
  bool attempt(const std::function<void()>& action);

  Value save_;     // the plan's block
  int64_t every_;  // steps; 0: only at the end, or by the epoch
  std::shared_ptr<ProcessGroup> group_;
  CheckpointSaver saver_;
  std::function<Moment()> moment_;
  std::filesystem::path run_directory_, at_;  // at_: of the checkpoint that was begun last
  int64_t saved_step_ = -1;                   // begun, or gone on from
  bool other_course_ = false;                 // later checkpoints may stand, of steps that are done again
  Validated validated_;
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
  double seconds_ = 0;
};

}  // namespace ft
