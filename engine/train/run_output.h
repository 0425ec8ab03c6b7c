#pragma once
/// What a run leaves and shows: its directory, record and log, the start report, the loading bar, the live line and
/// metrics.jsonl. Rank 0 writes and shows; the other ranks keep a log file. Owned by Run; the schedule's thread.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "engine/device/terminal.h"
#include "engine/optim/optimizer.h"
#include "engine/train/evaluate.h"
#include "engine/train/live_line.h"
#include "engine/train/metrics.h"
#include "engine/train/resume.h"
#include "engine/train/run_directory.h"
#include "engine/train/sharded_model.h"

namespace ft {

class Sampler;

class RunOutput {
 public:
  /// Opens the run's directory with everything in it that merging needs, and the log. Collective: the other ranks are
  /// told the path.
  /// @param base the model's directory, or null.   @param resumed the run to go on with, or null for a new one.
  /// @throws Error(config) for a directory that holds a run; every rank throws it.
  RunOutput(const RunInputs& inputs, ShardedModel& model, const ModelDirectory* base, const ResumePoint* resumed);
  ~RunOutput();

  /// Prints where the run stands, what it trains and what it will take.
  void report(const RunInputs& inputs, ShardedModel& model, Optimizer& optimizer, const Split& train,
              const Sampler& sampler);
  /// Loads with a bar. Collective.
  void load(ShardedModel& model, const WeightSource& source);
  /// What LoftQ came to, as shares of the weights in norm.
  void say_loftq(const LoftqReport& begun);
  /// Adds a row of metrics and shows it; the row joins `step` unless it names another. `measures` are written with
  /// steps only, not with what is measured before the first; `measures.peak_memory` is filled in here.
  /// @throws Error(config) for a row that is no table
  void log(const Value& row, int64_t step, StepMeasures measures);
  /// Writes the row of the step that has ended.
  void end_row();
  /// Says what takes a while: "saving checkpoint-200".
  void status(const std::string& text);
  /// A line that stays.
  void say(const std::string& text);
  /// Prints the command that merges this run, as it can be pasted into a shell.
  void say_merge_line();
  /// Ends the live line and writes what is open.
  void finish();

  const std::string& directory() const { return directory_; }

 private:
  void say_where_from(const SavedState& from);
  void show(const Value& row, int64_t step, const StepMeasures& measures);

  std::shared_ptr<Terminal> terminal_;
  std::optional<RunDirectory> owned_;  // rank 0
  std::string directory_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<LiveLine> live_;
  StepFigures shown_;
};

/// PEFT's LoraConfig of a run: the keys that every version of PEFT takes. Null without an adapter.
Value adapter_config(const Value& plan, Model& model);

}  // namespace ft
