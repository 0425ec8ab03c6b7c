#pragma once
/// A training run: what a recipe's loop drives. Owns the model's shards, the optimizer, the sampler, the run directory
/// and the process group. Bound to Lua in lua/bind/wrap_run.cpp. Rank rule: every rank makes the same calls in the same
/// order; those marked collective meet the other ranks. Thread rule: one thread, the one that walks the schedule.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/data/batch.h"
#include "engine/schema/value.h"

namespace ft {

/// A loss over the sequences of one micro batch: its value, and its gradient, one a sequence.
struct SequenceLoss {
  double value = 0;
  std::vector<double> gradient{};
};
using SequenceLossOf = std::function<SequenceLoss(const std::vector<double>& log_probs)>;

/// What a caller makes of one micro batch: a sum, and what it is a sum over.
struct Measured {
  double sum = 0, count = 0;
};

class TokenRows;
class Tokenizer;
class ProcessGroup;

/// What a plan's start needs beside the plan itself.
struct RunInputs {
  /// The resolved plan (docs/architecture.md, "The resolved plan"): every default filled in, the model's description
  /// under model.description, its config.json under model.config.
  Value plan;
  std::map<std::string, std::shared_ptr<const TokenRows>> data;  ///< by split: "train", "val", "test"
  std::shared_ptr<const Tokenizer> tokenizer;                    ///< null for pre-tokenized data
  std::shared_ptr<ProcessGroup> group;
};

struct EvaluateOptions {
  bool generate = false;        ///< also decode an answer for each row's prompt and compare it with the row's labels
  int64_t max_new_tokens = 64;  ///< per answer
  int64_t limit = 0;            ///< rows, 0 for all
};

struct Evaluation {
  double loss = 0;         ///< mean nll over the split's target tokens; 0 when only generating
  int64_t tokens = 0;      ///< target tokens
  int64_t prompts = 0;     ///< answers decoded
  double exact_match = 0;  ///< share of answers equal to the reference text, surrounding white space aside
};

class Run {
 public:
  /// Builds the model on no device, shards it, and streams this rank's own byte ranges in (or draws them from the
  /// seed). Opens the run directory, prints the start report. Collective.
  static std::shared_ptr<Run> start(RunInputs inputs);
  ~Run();

  /// Moves on to the next window; false when the plan's steps are done. Begins to save when the plan's `save` block
  /// or SIGUSR1 says so; what it writes is complete some steps later.
  /// Collective. @throws Error(interrupt) after Ctrl-C or SIGTERM, once the run is saved.
  bool next_step();
  int64_t step() const;  ///< 1-based number of the current step; 0 before the first
  int64_t total_steps() const;
  /// The current window's micro batches of this rank.
  const std::vector<Batch>& window() const;
  int64_t window_tokens() const;  ///< target tokens of the window on this rank
  /// Forward and backward of one micro batch. @return this rank's part of the loss: Σ nll / tokens. Collective.
  double backward(const Batch& batch, double tokens);
  /// Σ log p of each sequence of a micro batch: of each document with targets, row after row.
  /// @param adapter false: of the base without the adapter, a preference loss's reference. Collective.
  std::vector<double> log_probs(const Batch& batch, bool adapter);
  /// Forward and backward of one micro batch under a loss over its sequences' log-probabilities, which loss_of gives
  /// with its gradient.   @param count that both are divided by: the window's pairs, say, over all ranks
  /// @return this rank's part of the loss. Collective.
  double backward(const Batch& batch, double count, const SequenceLossOf& loss_of);
  /// Sum of what the ranks hold of the step's rows, in fp64: over all ranks, those of one tensor group counted once.
  /// Collective.
  double sum(double value);
  /// Has the update scale the gradients to a global norm of at most `max_norm`. @return the norm before; no number
  /// where a rank's loss is none. Collective.
  double clip(double max_norm);
  /// One optimizer step at this step's learning rate; gradients are zero afterwards. A step that is not finite is
  /// skipped, or ends the run, as the plan's non_finite says. Collective. @throws Error(config) naming step and unit.
  void update();
  /// A row of metrics.jsonl and the live line, on rank 0. Unknown keys pass through.
  void log(const Value& row);
  double lr() const;  ///< this step's learning rate
  /// Takes the place of the plan's schedule: the rate of each step is lr times its factor. Rank 0's hold. Collective.
  /// @param factors one a step of total_steps()
  void use_schedule(std::vector<double> factors);
  /// Mean loss (and exact match) over a split. Collective. @throws Error(config) when the plan has no such split.
  Evaluation evaluate(const std::string& split, const EvaluateOptions& options = {});
  /// Mean of what the caller makes of a split's micro batches, over all ranks: such as a preference loss; of "val" it
  /// decides `best`. Ranks see equally many micro batches, some of them without a row. Collective.
  double measure(const std::string& split, const std::function<Measured(const Batch&)>& of);
  /// Writes a checkpoint of this moment and waits. @return its directory; empty where it could not be written and
  /// save.on_error is "continue". Collective.
  std::string save();
  /// Last save, and the line that merges it, unless that is what comes next. Collective.
  void finish();
  bool merges_at_end() const;  ///< save.final is "huggingface"; the merge itself is the caller's (engine/merge)

  int rank() const;
  int world_size() const;
  const std::string& directory() const;

 private:
  struct State;
  explicit Run(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ft
