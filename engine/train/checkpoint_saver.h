#pragma once
/// Writes checkpoints behind the training: a thread of each rank reads the masters and the optimizer's state where they
/// lie, while the next forward and backward run, and nothing changes them before the next update. Owned by the run.
///
/// Rank rule: start, done_everywhere and finish are collective; wait_for_reads is not. Thread rule: all calls come from
/// the schedule's thread; whoever is about to change a tensor that was handed to start calls wait_for_reads before.

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/parallel/compute_device.h"
#include "engine/parallel/process_group.h"
#include "engine/schema/value.h"
#include "engine/train/save.h"

namespace ft {

class CheckpointSaver {
 public:
  /// @param device that tensors lie on   @param kind full: start() writes while training waits
  explicit CheckpointSaver(std::shared_ptr<ProcessGroup> group,
                           std::shared_ptr<ComputeDevice> device = ComputeDevice::cpu(),
                           StateDict kind = StateDict::sharded)
      : group_(std::move(group)), device_(std::move(device)), kind_(kind) {}
  ~CheckpointSaver();  ///< gives up what is not finished: it is no checkpoint then
  CheckpointSaver(const CheckpointSaver&) = delete;

  /// Begins to write `directory` (…/checkpoint-<step>) and returns. `header` is kept as it is now. Tensors are read
  /// where they lie, those of a GPU a few MB at a time on a queue of their own. Collective; none may be at work.
  /// @param replace a whole checkpoint that stands there
  /// @return false when a whole checkpoint stands there already: then nothing is at work.
  /// @throws Error(io) on every rank, naming the one that could not begin.
  bool start(const std::filesystem::path& directory, std::vector<SavedPiece> pieces, Value header,
             bool replace = false);
  /// Between start and finish.
  bool at_work() const { return at_work_; }
  /// Returns when this rank's tensors may change. @return seconds waited.
  double wait_for_reads();
  /// True when every rank has written its shard: finish() will not wait. Collective.
  bool done_everywhere();
  /// Waits for all shards and writes the manifest; then rank 0 does what is left to do of a whole checkpoint.
  /// Collective. @throws Error(io) on every rank, naming the one that failed; what was written is removed.
  void finish(const std::function<void()>& on_first_rank = {});

 private:
  void write(const std::vector<SavedPiece>& pieces);
  void append(CheckpointShardWriter& writer, const at::Tensor& value);

  std::shared_ptr<ProcessGroup> group_;
  std::shared_ptr<ComputeDevice> device_;
  StateDict kind_;
  bool at_work_ = false;
  Mark values_made_;  // the update whose values are saved
  std::filesystem::path directory_;
  Value header_;
  std::thread thread_;
  std::atomic<bool> give_up_{false};
  std::mutex mutex_;
  std::condition_variable news_;
  bool read_ = false, done_ = false;  // under mutex_
  std::string result_;                // "+" and the shard's record, or "-" and what failed; valid once done_
};

}  // namespace ft
