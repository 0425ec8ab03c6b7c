#pragma once
/// How a run goes, on one line: drawn over on a terminal, elsewhere printed now and then. Rank 0; the schedule's
/// thread.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/device/terminal.h"

namespace ft {

struct StepFigures {
  int64_t step = 0;
  std::optional<double> loss{}, grad_norm{}, lr{}, val_loss{};
  int64_t tokens = 0;        ///< of the step, over all ranks
  double seconds = 0;        ///< of the step
  int64_t memory_bytes = 0;  ///< resident on this rank, or on its GPU
};

class LiveLine {
 public:
  LiveLine(std::shared_ptr<Terminal> terminal, int64_t total_steps,
           std::chrono::seconds plain_every = std::chrono::seconds(10));

  /// Shows a step. Called again for the same step (a val_loss came), it shows the line anew.
  void show(const StepFigures& figures);
  /// The last line stays.
  void finish();

  /// The line as it would be shown, uncut.
  std::string text(const StepFigures& figures) const;

 private:
  using Clock = std::chrono::steady_clock;

  std::shared_ptr<Terminal> terminal_;
  int64_t total_steps_;
  std::chrono::seconds plain_every_;
  std::optional<Clock::time_point> printed_;
  std::optional<StepFigures> last_;
  bool last_was_printed_ = false;
  // Running means over the last ten steps or so: single steps jump.
  double mean_seconds_ = 0, mean_tokens_ = 0;
  int64_t counted_step_ = 0;
};

}  // namespace ft
