#pragma once
/// metrics.jsonl: one row a step. Rank 0 writes it; the schedule's thread.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "engine/schema/value.h"

namespace ft {

/// What the run itself knows of a step; seconds are of rank 0.
struct StepMeasures {
  int64_t tokens = 0;  ///< target tokens of the window over all ranks
  double seconds = 0;  ///< wall time of the step
  double wait_gather = 0, wait_reduce = 0, wait_offload = 0, wait_data = 0, wait_save = 0;  ///< of which spent waiting
  std::optional<double> wait_update{};  ///< for updates that run beside the steps; written where they do
  int64_t skipped_steps = 0;       ///< so far, for a loss or gradient that was not finite; written when there are any
  double loss_scale = 0;           ///< that the next step uses; written for compute in fp16
  int64_t peak_memory = 0;         ///< bytes, the most so far on rank 0: VmHWM
  int64_t peak_tensor_memory = 0;  ///< bytes, the most so far of rank 0's tensors on the host (memory_meter.h)
  int64_t device_memory = 0;       ///< bytes that tensors take of rank 0's GPU now; for the live line
  /// Bytes, the most that tensors took of rank 0's GPU so far; written where it has one.
  int64_t peak_device_memory = 0;
};

class Metrics {
 public:
  /// Opens the file and adds to it. @param keep_steps rows of later steps are dropped first: those that a resumed run
  /// does again.   @throws Error(io)
  explicit Metrics(std::filesystem::path path, std::optional<int64_t> keep_steps = std::nullopt);
  ~Metrics();  ///< writes the row that is open, as far as the disk allows
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// Adds what a recipe logs, a map with `step`. Logged again for the same step (a val_loss), it joins that step's row;
  /// for another step, the row before is written. Keys keep their order, unknown ones pass through.
  /// @throws Error(config) without an integer `step`.
  void add(const Value& row);
  /// Adds the run's own measures to the open row of `step`, beside what the recipe has set itself, which counts.
  void add(int64_t step, const StepMeasures& measures);
  /// Writes the open row and hands it to the system: a reader sees it now. The run calls it as each step begins and
  /// ends.
  /// @throws Error(io)
  void flush();

 private:
  Value& open_row(int64_t step);

  std::filesystem::path path_;
  int fd_ = -1;
  std::optional<int64_t> step_;
  Value row_;
};

}  // namespace ft
