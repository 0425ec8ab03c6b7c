#include "engine/train/resume.h"

#include <ATen/ops/empty_like.h>

#include "engine/error/error.h"
#include "engine/formats/checkpoint_links.h"
#include "engine/parallel/scalar_type.h"
#include "engine/train/saved_blocks.h"
#include "engine/train/saved_place.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

ResumePoint open_newest(const fs::path& run) {
  ResumePoint point{run, nullptr};
  const auto newest = newest_checkpoint(run, &point.passed_over);
  if (newest) point.checkpoint = std::make_unique<Checkpoint>(*newest);
  return point;
}

std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kMost = 5;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kMost) text += ", … (" + std::to_string(names.size()) + " in all)";
  return text;
}

void check_same(const Checkpoint& checkpoint, const char* key, int64_t want, const char* option) {
  const Value* saved = checkpoint.header().find(key);
  if (!saved || saved->as_integer() == want) return;
  throw Error(ErrorKind::config,
              "got " + std::to_string(want) + ", the checkpoint was made with " + std::to_string(saved->as_integer()))
      .at(checkpoint.path().string())
      .key(option)
      .help("a resumed run goes through the same rows in the same order; keep it as it was");
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
  throw Error(ErrorKind::config, "is neither a run directory nor a checkpoint in one")
      .at(path.string())
      .key("--resume")
      .help("give the directory that the run printed when it started, or a checkpoint-<step>, latest or best in it");
}

void check_resumable(const Checkpoint& checkpoint, Model& model, const Value& plan) {
  std::vector<std::string> missing, unexpected, other_shape;
  std::map<std::string, const Parameter*> trained;
  for (const Parameter* p : model.parameters())
    if (p->storage == Storage::trainable) trained[p->name] = p;
  for (const auto& [name, p] : trained) {
    const Checkpoint::Tensor* saved = checkpoint.find(name, "master");
    if (!saved) {
      missing.push_back(name);
    } else if (saved->shape != p->full_shape()) {
      other_shape.push_back(name + " (saved " + shape_text(saved->shape) + ", wanted " + shape_text(p->full_shape()) +
                            ")");
    }
  }
  for (const Checkpoint::Tensor& saved : checkpoint.tensors())
    if (saved.kind == "master" && !trained.contains(saved.name)) unexpected.push_back(saved.name);
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
  if (checkpoint.header().get("save_only_model", false))
    throw Error(ErrorKind::config, "holds the weights alone, without the optimizer's state (save.save_only_model)")
        .at(checkpoint.path().string())
        .key("--resume")
        .help("merge it, and begin a run with what comes of that");
  check_same(checkpoint, "seed", plan.get("seed", 0), "seed");
  check_same(checkpoint, "rows_per_step", plan.at("batch").at("total").as_integer(), "batch.total");
}

void load_optimizer(const Checkpoint& checkpoint, Model& model, Optimizer& optimizer) {
  std::map<std::string, const Parameter*> parameters;
  for (const Parameter* p : model.parameters()) parameters[p->name] = p;
  const std::vector<StateTensor> states = optimizer.state();
  for (const StateTensor& state : states) {
    if (read_cut_anew(checkpoint, *parameters.at(state.name), state, states)) continue;
    const Piece place = place_of_state(*parameters.at(state.name), state);
    const Checkpoint::Tensor* saved = checkpoint.find(place.name, place.kind);
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

}  // namespace ft
