#include "engine/train/run.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "engine/data/packing.h"
#include "engine/data/sampler.h"
#include "engine/data/token_rows.h"
#include "engine/device/figures.h"
#include "engine/device/log.h"
#include "engine/device/memory.h"
#include "engine/error/error.h"
#include "engine/formats/checkpoint.h"
#include "engine/formats/model_directory.h"
#include "engine/formats/peft_adapter.h"
#include "engine/optim/learning_rate.h"
#include "engine/optim/optimizer.h"
#include "engine/text/tokenizer.h"
#include "engine/train/base_model.h"
#include "engine/train/evaluate.h"
#include "engine/train/interrupt.h"
#include "engine/train/loss_scale.h"
#include "engine/train/micro_batch.h"
#include "engine/train/non_finite.h"
#include "engine/train/out_of_memory.h"
#include "engine/train/resume.h"
#include "engine/train/run_output.h"
#include "engine/train/run_saves.h"
#include "engine/train/save.h"
#include "engine/train/sequence_scores.h"
#include "engine/train/sharded_model.h"
#include "engine/train/unit_updates.h"

namespace ft {
namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The adapter that training goes on from, or nothing.
std::unique_ptr<PeftAdapter> open_adapter(const Value& plan) {
  const Value* adapter = plan.find("adapter");
  const std::string from = adapter && !adapter->is_null() ? adapter->get("from", "") : "";
  return from.empty() ? nullptr : std::make_unique<PeftAdapter>(from);
}

/// Finds where the plan goes on. What "auto" came to when the run began stays, whatever this processor is fast in; a
/// new run's plan says in full what it began from.
std::optional<ResumePoint> take_up(Value& plan) {
  auto point = resume_point(plan);
  Value* compute = plan.find("model")->find("compute");
  if (point && point->checkpoint && compute && *compute == Value("auto"))
    *compute = point->checkpoint->header().get("compute", "auto");
  if (point && point->directory.empty()) plan.find("save")->set("resume", point->checkpoint->path().string());
  return point;
}

SamplerOptions sampler_options(const Value& plan, const Mesh& mesh) {
  const Value& batch = plan.at("batch");
  const Value& train = plan.at("data").at("train");
  return {.total = batch.at("total").as_integer(),
          .micro = batch.at("micro").as_integer(),
          .rank = mesh.data_rank(),
          .world = mesh.num_data_ranks(),
          .seed = static_cast<uint64_t>(plan.get("seed", 0)),
          .shuffle = train.get("shuffle", true),
          .remainder = parse_remainder(train.get("remainder", "pad")),
          .epochs = plan.get("epochs", 1.0),
          .max_steps = plan.get("max_steps", 0)};
}

}  // namespace

/// Everything a run owns, in the order in which it is made.
struct Run::State {
  explicit State(RunInputs given)
      : inputs(std::move(given)),
        directory(open_base(inputs.plan.at("model"))),
        resumed(take_up(inputs.plan)),
        adapter(open_adapter(inputs.plan)),
        source(directory.get(), static_cast<uint64_t>(inputs.plan.get("seed", 0)), checkpoint(), adapter.get()),
        model(inputs.plan, source, inputs.group),
        sampler(make_split("train").packing.size(), sampler_options(inputs.plan, model.mesh())),
        saves(inputs.plan, inputs.group, model.device(), sampler.total_steps(), [this] { return save_moment(); }),
        loss_scale(inputs.plan, model.compute()) {}

  /// A split's rows and their packing, made at its first use.
  Split& make_split(const std::string& name);
  void make_window();
  void go_on();
  RunSaves::Moment save_moment();
  void meet_wishes();
  [[noreturn]] void stop(const std::string& saved);
  Context training_context(double tokens) const;
  bool finite_step();
  bool only_overflowed();
  MemoryUse memory_use(bool in_unit);
  template <class Action>
  auto in_memory(bool in_unit, const Action& action);
  const SavedState* checkpoint() const { return resumed ? resumed->checkpoint.get() : nullptr; }
  double offloading() { return model.home() ? model.home()->seconds() : 0; }
  int64_t pad_id() const { return inputs.tokenizer ? inputs.tokenizer->pad_id().value_or(0) : 0; }

  RunInputs inputs;
  std::unique_ptr<ModelDirectory> directory;
  std::optional<ResumePoint> resumed;
  std::unique_ptr<PeftAdapter> adapter;
  WeightSource source;
  ShardedModel model;
  std::map<std::string, Split> splits;
  Sampler sampler;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<UnitUpdates> updates;
  std::unique_ptr<RunOutput> output;

  std::vector<Batch> window;
  int64_t window_tokens = 0;
  double step_started = 0, step_seconds = 0, data_seconds = 0;
  double offload_began = 0, offload_seconds = 0;  // of copies: before the step, and in it
  double update_began = 0, update_seconds = 0;    // of waiting for updates: likewise
  size_t backwards = 0;                           // of this step, so far
  int64_t window_tokens_all = 0;                  // over all ranks, as the recipe summed it
  Waits waits;
  RunSaves saves;
  double tokens = 1;                // that the loss of this step is divided by
  bool loss_is_finite = true;       // of this rank's micro batches of this step
  std::optional<double> grad_norm;  // of this step, once it was clipped
  int64_t skipped_steps = 0;
  LossScale loss_scale;
  double grad_factor = 1;          // that the update multiplies gradients by: unscales the loss, and clips
  std::vector<double> lr_factors;  // of a schedule that is a function of the recipe's; else empty
};

Split& Run::State::make_split(const std::string& name) {
  if (const auto found = splits.find(name); found != splits.end()) return found->second;
  const auto rows = inputs.data.find(name);
  if (rows == inputs.data.end()) throw Error(ErrorKind::config, "the plan has no such split").key("data." + name);
  const Value& described = inputs.plan.at("data").at(name);
  const int64_t seq_len = described.get("seq_len", rows->second->longest());
  Packing packing = make_packing(*rows->second, seq_len, described.get("pack", false));
  return splits.emplace(name, Split{rows->second, std::move(packing)}).first->second;
}

void Run::State::make_window() {
  const double started = seconds_now();
  const Split& train = make_split("train");
  window.clear();
  window_tokens = 0;
  for (const auto& ids : sampler.micro_batches()) {
    Batch whole = make_batch(*train.rows, train.packing, ids, pad_id(), kLengthMultiple);
    window.push_back(own_part(std::move(whole), model.context_axis(), pad_id()));
    window_tokens += window.back().num_targets;
  }
  data_seconds = seconds_now() - started;
}

/// Takes up the optimizer and what is counted where the checkpoint left them.
void Run::State::go_on() {
  const SavedState& from = *checkpoint();
  if (holds_optimizer(from)) load_optimizer(from, model.model(), *optimizer);
  if (const Value* scale = from.header().find("loss_scale")) loss_scale.restore(*scale);
  skipped_steps = from.header().get("skipped_steps", int64_t{0});
}

/// What a checkpoint of this moment holds.
RunSaves::Moment Run::State::save_moment() {
  updates->finish();
  const Sampler::Position position = sampler.position();
  const bool only_model = inputs.plan.at("save").get("save_only_model", false);
  Value header = Value::map({{"step", sampler.step()},
                             {"total_steps", sampler.total_steps()},
                             {"optimizer_steps", optimizer->steps},
                             {"seed", inputs.plan.get("seed", 0)},
                             {"rows_per_step", inputs.plan.at("batch").at("total").as_integer()},
                             {"compute", to_string(model.compute())},
                             {"world_size", inputs.group->size()},
                             {"loss_scale", loss_scale.state()},
                             {"skipped_steps", skipped_steps},
                             {"data", Value::map({{"epoch", position.epoch}, {"window", position.window}})}});
  if (only_model) header.set("save_only_model", true);
  output->status("saving checkpoint-" + std::to_string(sampler.step()));
  return {saved_pieces(model, only_model ? nullptr : optimizer.get()), std::move(header)};
}

/// Between two steps: saves where that is due or asked for, and stops where that is asked for. Signals reach ranks at
/// different moments, and the clock is rank 0's: the ranks agree on the most that one of them was asked.
void Run::State::meet_wishes() {
  constexpr double kSave = 0.5;  // less than any signal that stops: what stops saves, too
  const bool wants_save = asked_to_save() || (inputs.group->rank() == 0 && saves.minutes_are_over());
  const double wish = inputs.group->max(interrupted() != 0 ? interrupted() : wants_save ? kSave : 0);
  if (wish == kSave) met_wish_to_save();
  saves.between_steps(sampler.step(), sampler.steps_per_epoch(), wish == kSave);
  if (wish > kSave) stop(sampler.step() > 0 ? saves.save(sampler.step()) : "");
}

/// @throws Error(interrupt), always.
void Run::State::stop(const std::string& saved) {
  const int64_t step = sampler.step();
  std::string text = "stopped before the first step";
  if (step > 0)
    text =
        "stopped after step " + std::to_string(step) + (saved.empty() ? "; it could not be saved" : "; saved " + saved);
  output->finish();
  output->say(text);
  if (step > 0) output->say_merge_line();
  throw Error(ErrorKind::interrupt, text);
}

Context Run::State::training_context(double over_tokens) const {
  Context context;
  context.training = true;
  context.loss_scale = loss_scale.scale() / std::max(1.0, over_tokens);
  context.seed = static_cast<uint64_t>(inputs.plan.get("seed", 0));
  context.step = sampler.step();
  return context;
}

/// Whether a step is not finite for its loss scale alone: every rank's loss is, and there is room to scale less.
/// Collective.
bool Run::State::only_overflowed() {
  return loss_scale.on() && loss_scale.scale() > 1 && inputs.group->max(loss_is_finite ? 0 : 1) == 0;
}

/// Looks at the norm that all ranks have alike, before the weights are touched. @return false for a step to be skipped
/// @throws Error(config) where the plan says to stop. Collective.
bool Run::State::finite_step() {
  if (std::isfinite(*grad_norm)) return loss_scale.stepped(), true;
  if (only_overflowed()) {
    loss_scale.overflowed(sampler.step());
    ++skipped_steps;
    return false;
  }
  saves.complete();
  updates->abandon();
  const std::string found = find_non_finite(model, window, training_context(tokens));
  const std::string what = "step " + std::to_string(sampler.step()) +
                           ": the loss or its gradient is not finite (norm " + std::to_string(*grad_norm) +
                           "): " + found;
  if (inputs.plan.get("non_finite", "stop") == "skip") {
    ++skipped_steps;
    if (inputs.group->rank() == 0) log_warning(what + "; the step is skipped");
    return false;
  }
  const auto newest = newest_checkpoint(output->directory());
  throw Error(ErrorKind::config, what)
      .key("non_finite")
      .help("lower optimizer.lr or raise its warmup, look at the rows of this step, or set non_finite = \"skip\"; " +
            (newest ? newest->filename().string() + " stands" : std::string("no checkpoint was saved yet")) +
            "; see docs/troubleshooting.md#instability");
}

MemoryUse Run::State::memory_use(bool in_unit) {
  const ShardBytes bytes = model.bytes();
  return {.unit = in_unit ? model.model().units()[model.schedule().unit_at_work()].name : "",
          .by_kind = {{"nf4 base", bytes.nf4},
                      {"frozen", bytes.frozen},
                      {"masters", bytes.master},
                      {"gradients", bytes.gradient},
                      {"optimizer", optimizer ? optimizer->state_bytes() : 0},
                      {"whole parameters", bytes.whole},
                      {"gathered units", bytes.pool}},
          .on_device = model.device()->memory().held};
}

/// Runs what allocates; says what is known where memory runs out.
template <class Action>
auto Run::State::in_memory(bool in_unit, const Action& action) {
  try {
    return action();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    auto error = out_of_memory(e, memory_use(in_unit));
    if (!error) throw;
    error->context("step " + std::to_string(sampler.step())).context("rank " + std::to_string(inputs.group->rank()));
    throw *error;
  }
}

Run::Run(std::unique_ptr<State> state) : state_(std::move(state)) {}
Run::~Run() = default;

std::shared_ptr<Run> Run::start(RunInputs inputs) {
  auto state = std::make_unique<State>(std::move(inputs));
  State& s = *state;
  if (s.directory) check_weights(*s.directory, s.model.model());
  if (s.adapter) check_weights(*s.adapter, s.model.model());
  if (s.checkpoint()) {
    name_averages(*s.resumed, s.model.model(), s.inputs.plan);
    check_resumable(*s.checkpoint(), s.model.model(), s.inputs.plan);
    restore_place(*s.checkpoint(), s.sampler);
  }
  s.output = std::make_unique<RunOutput>(s.inputs, s.model, s.directory.get(), s.resumed ? &*s.resumed : nullptr);
  {
    const OffloadHome::Stay at_home(s.model.state_home());
    s.optimizer = build_optimizer(s.inputs.plan.at("optimizer"), optimizer_pieces(s.model), &s.model.split_group());
  }
  s.updates = std::make_unique<UnitUpdates>(s.model, *s.optimizer, overlap_of(s.inputs.plan, s.model, *s.optimizer),
                                            [&s] { s.saves.wait_for_reads(); });
  if (s.checkpoint()) s.go_on();
  const bool of_ours = s.checkpoint() && s.checkpoint()->engine().empty();
  s.saves.open(s.output->directory(), of_ours ? std::optional(s.checkpoint()->step()) : std::nullopt);
  s.output->report(s.inputs, s.model, *s.optimizer, s.make_split("train"), s.sampler);
  s.in_memory(false, [&] { s.output->load(s.model, s.source); });
  return std::shared_ptr<Run>(new Run(std::move(state)));
}

bool Run::next_step() {
  State& s = *state_;
  if (step() < total_steps()) s.output->end_row();  // what is measured after the last step joins its row
  s.saves.reset_seconds();
  s.meet_wishes();
  if (!s.sampler.next()) return false;
  s.step_started = seconds_now();
  s.model.schedule().waits = {};
  s.offload_began = s.offloading();
  s.update_began = s.updates->waited();
  s.updates->next_step(lr());
  s.backwards = 0;
  s.loss_is_finite = true;
  s.grad_norm.reset();
  s.grad_factor = 1 / s.loss_scale.scale();
  s.make_window();
  return true;
}

int64_t Run::step() const { return state_->sampler.step(); }
int64_t Run::total_steps() const { return state_->sampler.total_steps(); }
const std::vector<Batch>& Run::window() const { return state_->window; }
int64_t Run::window_tokens() const { return state_->window_tokens; }

double Run::backward(const Batch& batch, double tokens) {
  State& s = *state_;
  if (++s.backwards >= s.window.size()) s.updates->last_backward();
  s.window_tokens_all = static_cast<int64_t>(tokens);
  s.tokens = tokens;
  MicroBatch made = micro_batch(batch, s.model.context_axis(), s.model.device()->where());
  const Context training = s.training_context(tokens);
  made.context.training = training.training;
  made.context.loss_scale = training.loss_scale;
  made.context.seed = training.seed;
  made.context.step = training.step;
  try {
    const double scaled_loss = s.in_memory(true, [&] { return s.model.schedule().train(made.tokens, made.context); });
    const double loss = scaled_loss / s.loss_scale.scale();
    s.loss_is_finite = s.loss_is_finite && std::isfinite(loss);
    return loss;
  } catch (Error& e) {
    e.context("step " + std::to_string(step())).context("rank " + std::to_string(rank()));
    throw;
  }
}

std::vector<double> Run::log_probs(const Batch& batch, bool adapter) {
  return state_->in_memory(true, [&] { return sequence_log_probs(state_->model, batch, adapter); });
}

double Run::backward(const Batch& batch, double count, const SequenceLossOf& loss_of) {
  State& s = *state_;
  if (++s.backwards >= s.window.size()) s.updates->last_backward();
  s.window_tokens_all = static_cast<int64_t>(sum(static_cast<double>(s.window_tokens)));
  s.tokens = count;
  const double loss =
      s.in_memory(true, [&] { return train_on_sequences(s.model, batch, s.training_context(count), loss_of); });
  s.loss_is_finite = s.loss_is_finite && std::isfinite(loss);
  return loss / std::max(1.0, count);
}

double Run::sum(double value) { return state_->model.mesh().loss_group().sum(value); }

double Run::clip(double max_norm) {
  if (state_->updates->overlap() == Overlap::backward && std::isfinite(max_norm))
    throw Error(ErrorKind::config, "got run:clip(" + short_text(max_norm) +
                                       ") and \"backward\", where updates begin before the norm is known")
        .key("optimizer.overlap")
        .help("set overlap = \"forward\", or have run:clip(math.huge) measure the norm alone");
  ProcessGroup& group = *state_->inputs.group;
  state_->model.reduce_gradients();
  double squares = state_->updates->squares();
  // A loss that is no number makes the norm none, on every rank alike, even where no gradient shows it.
  if (!state_->loss_is_finite) squares = std::numeric_limits<double>::quiet_NaN();
  const double norm = std::sqrt(group.sum(squares) / state_->model.replicas().size()) * state_->grad_factor;
  state_->grad_norm = norm;
  constexpr double kEps = 1e-6;  // torch.nn.utils.clip_grad_norm_
  state_->grad_factor *= std::min(1.0, max_norm / (norm + kEps));
  return norm;
}

void Run::use_schedule(std::vector<double> factors) {
  FT_CHECK(static_cast<int64_t>(factors.size()) == total_steps(), "a schedule has a factor for every step");
  if (factors.empty()) return;
  const auto size = static_cast<int64_t>(factors.size());
  state_->inputs.group->broadcast(at::from_blob(factors.data(), {size}, at::kDouble), 0).wait();
  state_->lr_factors = std::move(factors);
}

double Run::lr() const {
  const Value& optimizer = state_->inputs.plan.at("optimizer");
  const Value* schedule = optimizer.find("schedule");
  if (!state_->lr_factors.empty())
    return optimizer.at("lr").as_number() * state_->lr_factors[static_cast<size_t>(std::max<int64_t>(0, step() - 1))];
  return learning_rate(schedule ? *schedule : Value(), optimizer.at("lr").as_number(), std::max<int64_t>(0, step() - 1),
                       total_steps());
}

void Run::update() {
  State& s = *state_;
  if (!s.grad_norm) clip(std::numeric_limits<double>::infinity());  // the recipe does not: for the check below
  if (s.finite_step()) {
    s.in_memory(false, [&] { s.updates->update(s.grad_factor); });
  } else {
    s.updates->skip();
  }
  // The step ends here: what the recipe measures afterwards is not its time.
  s.step_seconds = seconds_now() - s.step_started;
  s.waits = s.model.schedule().waits;
  s.offload_seconds = s.offloading() - s.offload_began;
  s.update_seconds = s.updates->waited() - s.update_began;
}

void Run::log(const Value& row) {
  State& s = *state_;
  StepMeasures measures;
  measures.tokens = s.window_tokens_all;
  measures.seconds = s.step_seconds;
  measures.wait_gather = s.waits.gather;
  measures.wait_reduce = s.waits.reduce;
  measures.wait_offload = s.offload_seconds;
  measures.wait_data = s.data_seconds;
  measures.wait_save = s.saves.seconds();
  if (s.updates->overlap() != Overlap::none) measures.wait_update = s.update_seconds;
  measures.skipped_steps = s.skipped_steps;
  if (s.loss_scale.on()) measures.loss_scale = s.loss_scale.scale();
  const DeviceMemory on_device = s.model.device()->memory();
  measures.device_memory = on_device.held;
  measures.peak_device_memory = on_device.peak;
  s.output->log(row, step(), measures);
}

Evaluation Run::evaluate(const std::string& split, const EvaluateOptions& options) {
  State& s = *state_;
  Split& measured = s.make_split(split);
  s.output->status("evaluating " + split);
  if (options.generate) {
    if (!s.inputs.tokenizer) throw Error(ErrorKind::config, "answers need a tokenizer").key("data." + split);
    return s.in_memory(true, [&] { return evaluate_answers(s.model, *measured.rows, *s.inputs.tokenizer, options); });
  }
  const int64_t rows = s.inputs.plan.at("batch").at("micro").as_integer();
  const Evaluation found = s.in_memory(true, [&] { return evaluate_loss(s.model, measured, rows, s.pad_id()); });
  if (split == "val") s.saves.validated(step(), found.loss);
  return found;
}

double Run::measure(const std::string& split, const std::function<Measured(const Batch&)>& of) {
  State& s = *state_;
  const Split& measured = s.make_split(split);
  s.output->status("evaluating " + split);
  Measured all;
  for_each_batch(s.model, measured, s.inputs.plan.at("batch").at("micro").as_integer(), s.pad_id(),
                 [&](const Batch& batch) {
                   const Measured one = of(batch);
                   all.sum += one.sum;
                   all.count += one.count;
                 });
  const double count = sum(all.count), mean = sum(all.sum) / (count > 0 ? count : 1);
  if (split == "val") s.saves.validated(step(), mean);
  return mean;
}

std::string Run::save() { return state_->saves.save(step()); }

void Run::finish() {
  State& s = *state_;
  s.saves.finish(step());
  s.output->finish();
  if (s.skipped_steps > 0)
    s.output->say(std::to_string(s.skipped_steps) + " steps were skipped: their loss or gradient was not finite");
  if (!merges_at_end()) s.output->say_merge_line();
}

bool Run::merges_at_end() const { return state_->inputs.plan.at("save").get("final", "sharded") == "huggingface"; }

int Run::rank() const { return state_->inputs.group->rank(); }
int Run::world_size() const { return state_->inputs.group->size(); }
const std::string& Run::directory() const { return state_->output->directory(); }

}  // namespace ft
