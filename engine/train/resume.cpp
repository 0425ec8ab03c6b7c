#include "engine/train/resume.h"

#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <map>
#include <set>

#include "engine/error/error.h"
#include "engine/formats/checkpoint.h"
#include "engine/formats/checkpoint_links.h"
#include "engine/formats/json.h"
#include "engine/formats/trainer_order.h"
#include "engine/optim/adamw.h"
#include "engine/parallel/scalar_type.h"
#include "engine/train/saved_blocks.h"
#include "engine/train/saved_place.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

// Another engine's checkpoint, to begin a run with; nothing where there is none.
std::optional<ResumePoint> open_foreign(const fs::path& path) {
  if (!find_foreign_checkpoint(path)) return std::nullopt;
  auto saved = std::make_unique<ForeignCheckpoint>(path);
  ForeignCheckpoint* foreign = saved.get();
  return ResumePoint{{}, std::move(saved), "", foreign};
}

// A run that has no checkpoint yet begins again: where its plan says that it began.
ResumePoint begin_again(const fs::path& run) {
  const fs::path plan = run / "plan.json";
  const Value made = fs::exists(plan) ? read_json(plan) : Value::map();
  const Value* save = made.find("save");
  const std::string from = save && save->is_map() ? save->get("resume", "") : "";
  if (from.empty() || from == "auto") return {run, nullptr};
  auto point = open_foreign(from);
  if (!point)
    throw Error(ErrorKind::config, "has no checkpoint yet, and what it began from is gone: " + from).at(run.string());
  point->directory = run;
  return std::move(*point);
}

ResumePoint open_newest(const fs::path& run) {
  std::string passed_over;
  const auto newest = newest_checkpoint(run, &passed_over);
  if (!newest && passed_over.empty()) return begin_again(run);
  return {run, newest ? std::make_unique<Checkpoint>(*newest) : nullptr, passed_over};
}

std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kMost = 5;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kMost) text += ", … (" + std::to_string(names.size()) + " in all)";
  return text;
}

void check_same(const SavedState& checkpoint, const char* key, int64_t want, const char* option) {
  const Value* saved = checkpoint.header().find(key);
  if (!saved || saved->as_integer() == want) return;
  throw Error(ErrorKind::config,
              "got " + std::to_string(want) + ", the checkpoint was made with " + std::to_string(saved->as_integer()))
      .at(checkpoint.path().string())
      .key(option)
      .help("a resumed run goes through the same rows in the same order; keep it as it was");
}

std::map<std::string, const Parameter*> trained_parameters(Model& model) {
  std::map<std::string, const Parameter*> trained;
  for (const Parameter* p : model.parameters())
    if (p->storage == Storage::trainable) trained[p->name] = p;
  return trained;
}

// Names under which some engines save tied embeddings a second time.
std::set<std::string> tied_heads(Model& model) {
  const ModelUnit& head = model.units().back();
  return head.borrows.empty() ? std::set<std::string>() : std::set<std::string>{head.name + ".weight"};
}

void check_masters(const SavedState& checkpoint, const std::map<std::string, const Parameter*>& trained,
                   const std::set<std::string>& passed_over) {
  std::vector<std::string> missing, unexpected, other_shape;
  for (const auto& [name, p] : trained) {
    const SavedState::Tensor* saved = checkpoint.find(name, "master");
    if (!saved) {
      missing.push_back(name);
    } else if (saved->shape != p->full_shape()) {
      other_shape.push_back(name + " (saved " + shape_text(saved->shape) + ", wanted " + shape_text(p->full_shape()) +
                            ")");
    }
  }
  for (const SavedState::Tensor& saved : checkpoint.tensors())
    if (saved.kind == "master" && saved.trained && !trained.contains(saved.name) && !passed_over.contains(saved.name))
      unexpected.push_back(saved.name);
  std::string what;
  const auto add = [&](const char* title, const std::vector<std::string>& names) {
    if (!names.empty()) what += (what.empty() ? "" : "; ") + std::string(title) + listed(names);
  };
  add("it lacks ", missing);
  add("it also holds ", unexpected);
  add("other shapes: ", other_shape);
  if (!what.empty())
    throw Error(ErrorKind::shape, "is a checkpoint of another model or adapter: " + what)
        .at(checkpoint.path().string());
}

// Another engine's averages are Adam's, in floating point or, by bitsandbytes, in 8 bits but for small parameters and
// for embeddings.
void check_bits(const SavedState& saved, const std::map<std::string, const Parameter*>& trained,
                const Value& optimizer) {
  const std::string kind = optimizer.get("kind", "adamw");
  const int64_t bits = optimizer.get("bits", int64_t{32});
  const bool codes = std::any_of(saved.tensors().begin(), saved.tensors().end(),
                                 [](const SavedState::Tensor& tensor) { return tensor.dtype == DType::u8; });
  const bool large = std::any_of(trained.begin(), trained.end(),
                                 [](const auto& each) { return each.second->full_numel() >= kSmallestQuantized; });
  // Of small parameters alone, every AdamW keeps the same.
  const bool fits = kind == "adamw" && ((!codes && !large) || codes == (bits == 8));
  if (!fits)
    throw Error(ErrorKind::config, std::string("holds AdamW's averages in ") + (codes ? "8 bits" : "floating point") +
                                       ", and the plan's optimizer is " + kind +
                                       (kind == "adamw" ? " with " + std::to_string(bits) + " bits" : ""))
        .at(saved.path().string())
        .key("optimizer")
        .help(std::string("set ft.adamw { bits = ") +
              (codes ? "8 } (optimizer: adamw_torch_8bit)" : "32 } (optimizer: adamw_torch)") +
              ", or merge the checkpoint and begin a run with that");
  for (const SavedState::Tensor& average : saved.tensors())
    if (const auto p = trained.find(average.name);
        average.dtype == DType::u8 && p != trained.end() && p->second->full_numel() < kSmallestQuantized)
      throw Error(ErrorKind::config, "keeps " + average.kind + " in 8 bits, which is in fp32 here for fewer than " +
                                         std::to_string(kSmallestQuantized) + " elements")
          .at(saved.path().string())
          .key(average.name)
          .help("merge the checkpoint, and begin a run with what comes of that");
}

void check_averages(const SavedState& saved, const std::map<std::string, const Parameter*>& trained,
                    const Value& optimizer) {
  check_bits(saved, trained, optimizer);
  std::vector<std::string> missing;
  for (const auto& [name, p] : trained)
    for (const char* average : {"exp_avg", "exp_avg_sq"})
      if (!saved.contains(name, average)) missing.push_back(name + "." + average);
  if (!missing.empty())
    throw Error(ErrorKind::config, "its optimizer lacks " + listed(missing))
        .at(saved.path().string())
        .key("--resume")
        .help("train what the checkpoint's run did, or merge it and begin a run with what comes of that");
}

}  // namespace

std::optional<ResumePoint> resume_point(const Value& plan) {
  const Value& save = plan.at("save");
  const std::string wanted = save.get("resume", "");
  if (wanted.empty()) return std::nullopt;
  if (wanted == "auto") {
    const fs::path out = save.get("out", "");
    if (out.empty())
      throw Error(ErrorKind::config, "auto wants to know the run's directory")
          .key("--resume")
          .help("give it with --out DIR");
    if (!fs::exists(out / "run.json")) return std::nullopt;
    return open_newest(out);
  }
  const fs::path path = without_link(fs::absolute(wanted).lexically_normal());
  if (fs::exists(path / "run.json")) return open_newest(path);
  if (checkpoint_step(path) && fs::exists(path.parent_path() / "run.json"))
    return ResumePoint{path.parent_path(), std::make_unique<Checkpoint>(path)};
  if (auto point = open_foreign(path)) return point;
  throw Error(ErrorKind::config, "is neither a run directory, nor a checkpoint in one, nor another engine's checkpoint")
      .at(path.string())
      .key("--resume")
      .help("give the directory that the run printed when it started, or a checkpoint-<step>, latest or best in it");
}

void name_averages(ResumePoint& point, Model& model, const Value& plan) {
  if (!point.foreign || !point.foreign->is_numbered()) return;
  std::vector<std::string> trained;
  for (const auto& [name, p] : trained_parameters(model)) trained.push_back(name);
  const auto groups = trainer_groups(trained, plan.at("model").at("config").get("model_type", ""));
  if (groups && point.foreign->name_averages(*groups)) return;
  point.passed_over =
      point.foreign->numbered_file().string() +
      " numbers its parameters and does not name them: it is not AdamW's, or not of this plan's parameters "
      "in the order of transformers' Trainer";
}

bool holds_optimizer(const SavedState& saved) {
  return saved.engine().empty() || saved.header().find("optimizer_steps") != nullptr;
}

void check_resumable(const SavedState& saved, Model& model, const Value& plan) {
  const std::map<std::string, const Parameter*> trained = trained_parameters(model);
  check_masters(saved, trained, tied_heads(model));
  if (saved.header().get("save_only_model", false))
    throw Error(ErrorKind::config, "holds the weights alone, without the optimizer's state (save.save_only_model)")
        .at(saved.path().string())
        .key("--resume")
        .help("merge it, and begin a run with what comes of that");
  if (!saved.engine().empty() && holds_optimizer(saved)) check_averages(saved, trained, plan.at("optimizer"));
  check_same(saved, "seed", plan.get("seed", 0), "seed");
  check_same(saved, "rows_per_step", plan.at("batch").at("total").as_integer(), "batch.total");
}

void load_optimizer(const SavedState& checkpoint, Model& model, Optimizer& optimizer) {
  std::map<std::string, const Parameter*> parameters;
  for (const Parameter* p : model.parameters()) parameters[p->name] = p;
  const std::vector<StateTensor> states = optimizer.state();
  for (const StateTensor& state : states) {
    if (read_cut_anew(checkpoint, *parameters.at(state.name), state, states)) continue;
    const Piece place = place_of_state(*parameters.at(state.name), state);
    const SavedState::Tensor* saved = checkpoint.find(place.name, place.kind);
    if (!saved || saved->dtype != dtype_of(state.value.scalar_type()))
      throw Error(ErrorKind::config, "holds no " + state.key + " of " + state.name + " as this optimizer keeps it")
          .at(checkpoint.path().string())
          .key("optimizer")
          .help("a run is resumed with the optimizer it began with, bits included");
    const at::Tensor host = state.value.is_cpu() ? state.value : at::empty_like(state.value, at::kCPU);
    read_at(checkpoint, place, host.data_ptr());
    if (!state.value.is_cpu()) at::Tensor(state.value).copy_(host);
  }
  optimizer.steps = checkpoint.header().at("optimizer_steps").as_integer();
}

void restore_place(const SavedState& saved, Sampler& sampler) {
  if (const Value* place = saved.header().find("data"))
    return sampler.restore({place->at("epoch").as_integer(), place->at("window").as_integer()});
  const int64_t step = saved.step(), epoch = sampler.steps_per_epoch();
  if (step > sampler.total_steps())
    throw Error(ErrorKind::config, "has taken " + std::to_string(step) + " steps, and this run has " +
                                       std::to_string(sampler.total_steps()) + " in all")
        .at(saved.path().string())
        .key("--resume")
        .help("set epochs or max_steps to what the whole training is to have");
  sampler.restore({step / epoch, step % epoch});
}

}  // namespace ft
