#include "engine/train/run_output.h"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <set>
#include <utility>

#include "engine/data/data_files.h"
#include "engine/data/sampler.h"
#include "engine/data/token_rows.h"
#include "engine/device/figures.h"
#include "engine/device/log.h"
#include "engine/device/memory.h"
#include "engine/device/memory_meter.h"
#include "engine/device/progress_bar.h"
#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/formats/json_edit.h"
#include "engine/formats/model_directory.h"
#include "engine/parallel/launch.h"
#include "engine/text/tokenizer.h"
#include "engine/train/start_report.h"
#include "engine/train/unit_updates.h"

namespace ft {
namespace {

constexpr const char* kGeneration = "generation_config.json";

std::string last_component(const std::string& path) { return path.substr(path.rfind('.') + 1); }

RunDirectory open_directory(const Value& plan) {
  const Value& save = plan.at("save");
  if (const Value* out = save.find("out"); out && !out->is_null()) return RunDirectory::create_at(out->as_string());
  return RunDirectory::create_numbered(save.get("dir", "runs/run"));
}

// The files to keep with a run: those of the tokenizer that its text was read with, which need not be the base's.
std::vector<std::filesystem::path> companions(const RunInputs& inputs, const ModelDirectory* base) {
  if (!inputs.tokenizer) return base ? base->companions() : std::vector<std::filesystem::path>();
  std::vector<std::filesystem::path> files = companion_files(inputs.tokenizer->file().parent_path());
  const auto is_there = [&](const std::filesystem::path& name) {
    return std::any_of(files.begin(), files.end(), [&](const auto& file) { return file.filename() == name; });
  };
  if (base && !is_there(kGeneration) && std::filesystem::exists(base->path() / kGeneration))
    files.push_back(base->path() / kGeneration);
  return files;
}

bool is_empty(const Value& value) {
  return (value.is_list() && value.as_list().empty()) || (value.is_map() && value.as_map().empty());
}

// The base's config.json as it stands, with what the plan says otherwise. The plan's own copy went through Lua, whose
// tables hold no null: a window that is null would read as absent, which transformers takes for 4096.
Value with_changes(Value base, const Value& plan) {
  for (const auto& [key, value] : plan.as_map()) {
    Value* there = base.find(key);
    if (there && there->is_map() && value.is_map())
      *there = with_changes(std::move(*there), value);
    else if (!there || !(*there == value || (is_empty(*there) && is_empty(value))))
      base.set(key, value);
  }
  return base;
}

// generation_config.json with the ids that the tokenizer has; all else of it as it stands.
std::vector<std::pair<std::string, std::string>> generation_config(const std::vector<std::filesystem::path>& files,
                                                                   const Value& ids) {
  std::vector<std::pair<std::string, std::string>> texts;
  for (const std::filesystem::path& file : files) {
    if (file.filename() != kGeneration) continue;
    JsonEdit json(read_text(file), file.string());
    for (const auto& [key, value] : ids.as_map()) json.set(key, value);
    texts.emplace_back(kGeneration, json.text());
  }
  return texts;
}

RunContents contents(const RunInputs& inputs, ShardedModel& model, const ModelDirectory* base) {
  RunContents made;
  made.plan = inputs.plan;
  made.config = inputs.plan.at("model").at("config");
  if (base) made.config = with_changes(read_json(base->path() / "config.json"), made.config);
  made.adapter_config = adapter_config(inputs.plan, model.model());
  made.companions = companions(inputs, base);
  if (const Value* ids = inputs.plan.at("model").find("generation_ids"); ids && ids->is_map())
    made.texts = generation_config(made.companions, *ids);
  if (base) {
    made.record.base_model = std::filesystem::absolute(base->path()).string();
    made.record.model_fingerprint = base->fingerprint();
    if (base->growth()) made.record.grown = base->growth()->to_value();
  }
  made.record.quantized = model.quantized();
  made.record.double_quant = inputs.plan.at("model").get("double_quant", true);
  made.record.compute = to_string(model.compute());
  made.record.seed = static_cast<uint64_t>(inputs.plan.get("seed", 0));
  made.record.world_size = model.group().size();
  if (const Value* data = inputs.plan.find("data"); data && data->is_map()) {
    for (const auto& [split, described] : data->as_map())
      if (const Value* path = described.find("path"))
        for (DataFile& file : list_data_files(*path)) made.record.data.emplace_back(split, std::move(file.path));
  }
  if (const Value* command = inputs.plan.find("command"); command && command->is_list())
    for (const Value& word : command->as_list()) made.record.command.push_back(word.as_string());
  return made;
}

std::vector<std::pair<std::string, int64_t>> count_by_kind(const std::vector<std::string>& modules) {
  std::vector<std::pair<std::string, int64_t>> kinds;
  for (const std::string& module : modules) {
    const std::string kind = last_component(module);
    const auto found = std::find_if(kinds.begin(), kinds.end(), [&](const auto& entry) { return entry.first == kind; });
    if (found == kinds.end()) {
      kinds.emplace_back(kind, 1);
    } else {
      ++found->second;
    }
  }
  return kinds;
}

std::string layout_text(const Value& plan, ShardedModel& model) {
  const Value* parallel = plan.find("parallel");
  const std::string profile = parallel ? parallel->get("profile", "fsdp2") : "fsdp2";
  return profile + (model.group().size() == 1 ? " on one rank: nothing to split"
                                              : ": " + model.policy().text(model.mesh().shape()));
}

// "step 0  exact_match 0.035": what a recipe measured on its own, beside the steps; "" for a step's row.
std::string measured_text(const Value& row) {
  static const std::set<std::string> in_live_line{"step", "loss", "grad_norm", "lr", "val_loss"};
  if (row.find("loss")) return {};
  std::string text;
  for (const auto& [key, value] : row.as_map())
    if (value.is_number() && !in_live_line.contains(key)) text += "  " + key + " " + short_text(value.as_number());
  return text.empty() ? text : "step " + std::to_string(row.at("step").as_integer()) + text;
}

// A path as a shell reads it back.
std::string shell_word(const std::string& text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+:=,@%";
  if (text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// Two units are gathered at once (this one and the next), the two largest in the worst case.
int64_t gathered_bytes(ShardedModel& model) {
  std::vector<int64_t> units;
  for (auto& shard : model.shards()) {
    int64_t bytes = 0;
    for (const FlatRange& range : shard->ranges()) bytes += static_cast<int64_t>(range.flat.nbytes());
    units.push_back(bytes);
  }
  std::sort(units.rbegin(), units.rend());
  return units[0] + (units.size() > 1 ? units[1] : 0);
}

}  // namespace

Value adapter_config(const Value& plan, Model& model) {
  const auto lora = lora_options(plan);
  if (!lora) return {};
  // Names alone where they say it all; whole paths where only some modules of a name were adapted.
  const std::set<std::string> adapted(model.adapted().begin(), model.adapted().end());
  std::set<std::string> names;
  for (const std::string& module : adapted) names.insert(last_component(module));
  bool by_name = true;
  constexpr std::string_view kWeight = ".weight";
  for (const Parameter* p : model.parameters()) {
    if (p->name.size() <= kWeight.size() || !p->name.ends_with(kWeight)) continue;
    const std::string module = p->name.substr(0, p->name.size() - kWeight.size());
    if (names.contains(last_component(module)) && !adapted.contains(module)) by_name = false;
  }
  Value targets = Value::list();
  for (const std::string& name : by_name ? names : adapted) targets.as_list().emplace_back(name);
  const Value* dir = plan.at("model").find("dir");
  return Value::map({{"peft_type", "LORA"},
                     {"task_type", "CAUSAL_LM"},
                     {"base_model_name_or_path", dir && dir->is_string() ? *dir : Value()},
                     {"r", lora->r},
                     {"lora_alpha", lora->alpha},
                     {"lora_dropout", lora->dropout},
                     {"target_modules", std::move(targets)},
                     {"bias", "none"},
                     {"fan_in_fan_out", false},
                     {"use_rslora", lora->use_rslora},
                     {"use_dora", lora->use_dora},
                     {"lora_bias", lora->lora_bias},
                     {"rank_pattern", lora->rank_pattern},
                     {"alpha_pattern", lora->alpha_pattern},
                     {"modules_to_save", lora->modules_to_save},
                     {"ensure_weight_tying", lora->ensure_weight_tying},
                     {"loftq_config", lora->loftq ? Value::map({{"loftq_bits", 4}, {"loftq_iter", 1}}) : Value()},
                     {"inference_mode", true}});
}

RunOutput::RunOutput(const RunInputs& inputs, ShardedModel& model, const ModelDirectory* base,
                     const ResumePoint* resumed) {
  ProcessGroup& group = model.group();
  const bool first = group.rank() == 0, reopened = resumed && !resumed->directory.empty();
  terminal_ = first ? Terminal::on(STDOUT_FILENO) : Terminal::silent();
  std::optional<Error> failed;
  if (first) {
    try {
      owned_.emplace(reopened ? RunDirectory::reopen(resumed->directory) : open_directory(inputs.plan));
      directory_ = owned_->path().string();
      if (!reopened) owned_->write(contents(inputs, model, base));
      report_run_directory(directory_);
    } catch (const Error& e) {
      failed = e;
    }
  }
  const std::string told = group.broadcast_text(failed ? "-" + failed->message() : "+" + directory_);
  if (failed) throw *failed;
  if (told.front() == '-') throw Error(ErrorKind::comm, "rank 0: " + told.substr(1));
  directory_ = told.substr(1);
  start_log({.directory = directory_, .rank = group.rank(), .level = {}, .terminal = first ? terminal_ : nullptr});
  if (!first) return;
  const SavedState* from = resumed ? resumed->checkpoint.get() : nullptr;
  // Rows of steps that are done again are dropped: all of them where the run starts anew.
  std::optional<int64_t> keep_steps;
  if (reopened) keep_steps = from ? from->step() : -1;
  metrics_ = std::make_unique<Metrics>(std::filesystem::path(directory_) / "metrics.jsonl", keep_steps);
  if (resumed && !resumed->passed_over.empty()) log_warning("passed over: " + resumed->passed_over);
  if (from) say_where_from(*from);
}

void RunOutput::say_where_from(const SavedState& from) {
  std::string text = "going on from " + from.path().string();
  if (!from.engine().empty())
    text += " at step " + std::to_string(from.step()) + " of another engine (" + from.engine() +
            "): the order of rows is this engine's";
  terminal_->print(text);
  if (!holds_optimizer(from))
    log_warning(from.path().string() + ": no optimizer's state to go on with: it begins anew, as if at step 0");
}

RunOutput::~RunOutput() { stop_log(); }

namespace {

// What is asked for and, on a CPU, neither frees memory nor moves anything out of it.
std::vector<std::string> modes_without_effect(const Value& plan) {
  const Value& parallel = plan.at("parallel");
  const bool offloads = parallel.get("offload_params", false), keeps = plan.get("activation_offload", false);
  std::vector<std::string> modes;
  if (offloads)
    modes.emplace_back("offload_params: on a CPU memory is the host's already; each gather copies once more");
  if ((offloads || keeps) && parallel.get("cpu_offload_pin_memory", true))
    modes.emplace_back("cpu_offload_pin_memory: on a CPU no copy is faster for it; memory is kept from swap");
  if (keeps) modes.emplace_back("activation_offload: on a CPU memory is the host's already; inputs are copied");
  return modes;
}

}  // namespace

void RunOutput::report(const RunInputs& inputs, ShardedModel& model, Optimizer& optimizer, const Split& train,
                       const Sampler& sampler) {
  const ParameterCounts counts = model.counts();
  const ShardBytes bytes = model.bytes();
  const int64_t available = available_host_bytes();
  const Value& config = inputs.plan.at("model").at("config");
  const Value* dir = inputs.plan.at("model").find("dir");
  StartReport report;
  report.run_directory = directory_;
  report.model = (dir && dir->is_string() ? dir->as_string() : std::string("from a config")) + " (" +
                 config.get("model_type", "?") + ", " + std::to_string(model.model().num_layers()) + " layers)";
  report.ranks = model.group().size();
  report.ranks_on_machine = report.ranks;
  report.threads = at::get_num_threads();
  report.devices = model.devices();
  report.layout = layout_text(inputs.plan, model);
  report.compute = to_string(model.compute());
  report.update = overlap_text(overlap_of(inputs.plan, model, optimizer));
  report.memory = {{"nf4 base", bytes.nf4},
                   {"frozen", bytes.frozen},
                   {"masters", bytes.master},
                   {"gradients", bytes.gradient},
                   {"optimizer", optimizer.state_bytes()}};
  if (OffloadHome* home = model.home()) {
    report.offloaded_bytes = 0;
    for (const StartReport::Memory& row : report.memory) *report.offloaded_bytes += row.bytes;
    report.pinned_bytes = home->bytes().pinned;
    if (const auto refusal = home->refusal()) log_warning(*refusal);
  }
  if (report.ranks > 1) report.memory.push_back({"gathered units, at most", gathered_bytes(model)});
  std::erase_if(report.memory, [](const StartReport::Memory& row) { return row.bytes == 0; });
  report.mapped_bytes = bytes.mapped;
  if (model.device()->is_cpu()) report.without_effect = modes_without_effect(inputs.plan);
  report.available_bytes = model.device()->is_cpu() ? available : model.device()->memory().free;
  report.on_gpus = !model.device()->is_cpu();
  report.lora_modules = count_by_kind(model.model().adapted());
  report.trainable_parameters = counts.trainable;
  report.all_parameters = counts.all;
  const int64_t seq_len = inputs.plan.at("data").at("train").get("seq_len", train.rows->longest());
  report.tokens_per_step = inputs.plan.at("batch").at("total").as_integer() * seq_len;
  report.steps = sampler.total_steps();
  report.steps_per_epoch = sampler.steps_per_epoch();
  report.notes = {train.rows->report(), packing_report(*train.rows, train.packing, seq_len)};
  if (const std::string remainder = sampler.remainder_report(); !remainder.empty()) report.notes.push_back(remainder);
  terminal_->print(start_report_text(report, *terminal_));
  for (const std::string& note : report.notes) log_info(note);
  live_ = std::make_unique<LiveLine>(terminal_, sampler.total_steps());
}

void RunOutput::load(ShardedModel& model, const WeightSource& source) {
  const bool quantizes = model.bytes().nf4 > 0;
  ProgressBar bar(terminal_, quantizes ? "Loading & Quantizing Model Shards" : "Loading Model Shards",
                  model.bytes_to_read(source));
  std::optional<ProgressBar> second;
  int64_t shown = 0;
  model.load(
      source, [&](int64_t bytes) { bar.advance(bytes); },
      [&](int64_t bytes, int64_t all) {
        if (!second) bar.finish(), second.emplace(terminal_, "Beginning LoRA by LoftQ", all);
        second->advance(bytes - std::exchange(shown, bytes));
      });
  (second ? *second : bar).finish();
  if (const LoftqReport& begun = model.loftq(); begun.linears > 0) say_loftq(begun);
  if (const auto& cache = model.weight_cache()) {
    log_info("weight cache: " + cache->text());
    terminal_->print("weight cache: " + cache->text());
  }
}

void RunOutput::say_loftq(const LoftqReport& begun) {
  char text[160];
  std::snprintf(text, sizeof text,
                "LoftQ: LoRA of %lld linears begins as what NF4 takes away, %.2f %% of them before, %.2f %% after",
                static_cast<long long>(begun.linears), 100 * begun.before, 100 * begun.after);
  log_info(text);
  terminal_->print(text);
}

void RunOutput::log(const Value& row, int64_t step, StepMeasures measures) {
  if (!metrics_) return;
  Value full = Value::map({{"step", step}});
  full.origin = row.origin;
  if (!row.is_map() && !(row.is_list() && row.as_list().empty())) metrics_->add(row);  // which refuses it
  if (row.is_map())
    for (const auto& [key, value] : row.as_map()) full.set(key, value);
  if (full.as_map().size() == 1) return;  // run:log { exact_match = nil }
  metrics_->add(full);
  step = full.at("step").as_integer();
  if (step > 0) {
    measures.peak_memory = read_host_memory().peak_resident;
    measures.peak_tensor_memory = memory_meter::peak();
    metrics_->add(step, measures);
  }
  show(full, step, measures);
}

void RunOutput::show(const Value& row, int64_t step, const StepMeasures& measures) {
  if (const std::string line = measured_text(row); !line.empty()) terminal_->print(line);
  if (step == 0) return;
  if (shown_.step != step) shown_ = {};
  const auto figure = [&row](const char* key, std::optional<double>& into) {
    if (const Value* value = row.find(key); value && value->is_number()) into = value->as_number();
  };
  shown_.step = step;
  figure("loss", shown_.loss);
  figure("grad_norm", shown_.grad_norm);
  figure("lr", shown_.lr);
  figure("val_loss", shown_.val_loss);
  shown_.tokens = measures.tokens;
  shown_.seconds = measures.seconds;
  shown_.memory_bytes = measures.device_memory > 0 ? measures.device_memory : read_host_memory().resident;
  live_->show(shown_);
}

void RunOutput::status(const std::string& text) {
  log_info(text);
  if (terminal_->live()) terminal_->draw(text + " …");
}

void RunOutput::end_row() {
  if (metrics_) metrics_->flush();
}

void RunOutput::say(const std::string& text) { terminal_->print(text); }

void RunOutput::say_merge_line() {
  std::error_code ignored;
  const auto relative = std::filesystem::proximate(directory_, ignored).string();
  const bool below = !ignored && relative.rfind("..", 0) != 0;
  terminal_->print("to merge: " +
                   terminal_->paint(Style::bold, "ftengine merge " + shell_word(below ? relative : directory_)));
}

void RunOutput::finish() {
  if (metrics_) metrics_->flush();
  if (live_) live_->finish();
}

}  // namespace ft
