#pragma once
/// A tiny decoder, its optimizer and four rows a step, trained on any mesh: what tests of layouts compare. A *job* says
/// what is trained, and how: optimizer, lora, loftq, r, quantize, dropout, tied, biases, kv_heads, length, compute,
/// stage, reshard, activation_checkpointing, activation_offload, offload, pin, pages (a directory), overlap, clip; and
/// `plant`, a bug of several ranks: halve (the gradients), skip_rank, shift_label (of one rank), no_sums (that tensor
/// ranks owe each other), forget (an optimizer's state, when going on). Rank rule: every rank makes the same calls; all
/// of them are collective.

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/formats/checkpoint.h"
#include "engine/optim/optimizer.h"
#include "engine/train/save.h"
#include "engine/train/sharded_model.h"
#include "engine/train/unit_updates.h"
#include "tests/ranks/tiny_step.h"

namespace ft::test {

/// @param mesh null for one process
Value plan_of(const Value& job, const Value* mesh);

struct Trained {
  std::vector<double> losses, norms;
};

struct Training {
  /// @param from a checkpoint to go on from, or null
  Training(const Value& job, const Value* mesh, const std::shared_ptr<ProcessGroup>& group,
           const Checkpoint* from = nullptr);

  /// Forward, backward and the reduction of step `number`. @return the loss
  double step(int64_t number);
  double norm();
  /// Steps [begin, end), with their updates.
  Trained train(int64_t begin, int64_t end);
  void save(const std::filesystem::path& directory, StateDict kind = StateDict::sharded);

  Value job;
  WeightSource source;
  ShardedModel model;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<UnitUpdates> updates;
  std::function<void()> before_update{}, before_last_backward{};
};

/// What a training came to: figures, and copies of this rank's masters and optimizer state.
struct Ended {
  Trained trained;
  std::vector<at::Tensor> state;
};
Ended ended(Training& training, Trained trained);
bool equal(const Ended& a, const Ended& b);  ///< to the bit

/// A directory of all ranks'; rank 0 removes it.
struct SharedDirectory {
  explicit SharedDirectory(ProcessGroup& group);
  ~SharedDirectory();
  std::filesystem::path path;
  int rank;
};

}  // namespace ft::test
