#include "engine/formats/foreign_checkpoint.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/formats/model_directory.h"
#include "engine/formats/peft_names.h"
#include "engine/formats/source_readers.h"
#include "engine/quant/block8.h"
#include "engine/tensor/half.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kScale = "_scale", kModelFolder = "pytorch_model_fsdp_", kStepFolder = "global_step",
                           kCheckpoint = "checkpoint-", kOptimizerFolder = "optimizer_";

// "global_step500", "global_step" -> 500.
std::optional<int64_t> number_after(const std::string& name, std::string_view before) {
  if (!name.starts_with(before)) return std::nullopt;
  int64_t number = 0;
  const char* end = name.data() + name.size();
  const auto read = std::from_chars(name.data() + before.size(), end, number);
  return read.ec == std::errc() && read.ptr == end && number >= 0 ? std::optional(number) : std::nullopt;
}

fs::path if_there(const fs::path& path) { return fs::is_regular_file(path) ? path : fs::path(); }

// The folder that the weights' belongs to: what a training script names as the checkpoint.
fs::path whole_of(const fs::path& weights) {
  const std::string name = weights.filename().string();
  const bool part = number_after(name, kModelFolder) || number_after(name, kStepFolder) || fs::is_regular_file(weights);
  return part ? weights.parent_path() : weights;
}

// The parameter's name or number, and the key, of a tensor that an optimizer keeps.
std::pair<std::string, std::string> parts_of(const SourceTensor& stored) {
  const size_t dot = stored.name.rfind('.');
  return {stored.name.substr(0, dot), stored.name.substr(dot + 1)};
}

bool is_average(const SourceTensor& stored) {
  const std::string key = parts_of(stored).second;
  return key == "exp_avg" || key == "exp_avg_sq";
}

// An average in floating point, or codes of one, or the scales of the codes' blocks.
bool is_adams(const TensorSource& all, const SourceTensor& stored) {
  if (is_average(stored))
    return is_weight_dtype(stored.dtype) || (stored.dtype == DType::u8 && all.find(stored.name + std::string(kScale)));
  if (!stored.name.ends_with(kScale) || stored.dtype != DType::f32) return false;
  const SourceTensor* codes = all.find(stored.name.substr(0, stored.name.size() - kScale.size()));
  return codes && is_average(*codes) && codes->dtype == DType::u8;
}

// What is kept of a weight has its shape, but scales, one a block; from larger blocks there may be some more.
bool fits(const SourceTensor& stored, const SavedState::Tensor* weight) {
  if (!weight) return false;
  if (is_average(stored)) return stored.shape == weight->shape;
  const int64_t blocks = (weight->numel() + kBlock8 - 1) / kBlock8;
  return stored.numel() == blocks || (stored.shape.size() == 2 && stored.numel() >= blocks);
}

// The optimizer's file can go without the weights.
std::optional<TensorSource> open_optimizer(const fs::path& path) {
  try {
    return open_optimizer_source(path);
  } catch (const Error& error) {
    if (!fs::is_regular_file(path)) throw;
    throw Error(error.kind(), error.message())
        .at(error.where())
        .key(error.path())
        .help((error.help().empty() ? "" : error.help() + "; ") + "move " + path.string() +
              " away to begin with fresh averages");
  }
}

TensorSource open_weights(const fs::path& path) {
  return source_kind(path) == SourceKind::none ? open_safetensors(path) : open_tensor_source(path);
}

}  // namespace

std::optional<ForeignFiles> find_foreign_checkpoint(const fs::path& given) {
  // "DIR/" has no name of its own.
  const fs::path path = given.has_filename() ? given : given.parent_path();
  ForeignFiles files;
  if (const auto source = find_tensor_source(path))
    files.weights = *source;
  else if (fs::is_regular_file(path / "trainer_state.json") && is_safetensors(path))
    files.weights = path;
  else
    return std::nullopt;
  const fs::path whole = whole_of(files.weights);
  const auto number = number_after(files.weights.filename().string(), kModelFolder);
  const fs::path beside = whole / (std::string(kOptimizerFolder) + std::to_string(number.value_or(0)));
  if (is_dcp(beside)) files.optimizer = beside;
  if (is_zero(files.weights)) files.optimizer = files.weights;
  for (const char* name : {"optimizer.bin", "optimizer.pt"})
    if (files.optimizer.empty()) files.optimizer = if_there(whole / name);
  if (files.optimizer.empty() && fs::is_directory(files.weights)) files.optimizer = files.weights;
  files.trainer_state = if_there(whole / "trainer_state.json");
  files.adapter_config = if_there(whole / "adapter_config.json");
  if (files.adapter_config.empty()) files.adapter_config = if_there(files.weights / "adapter_config.json");
  return files;
}

ForeignCheckpoint::ForeignCheckpoint(const fs::path& path) : SavedState(path) {
  const auto files = find_foreign_checkpoint(path);
  if (!files) throw Error(ErrorKind::config, "holds no checkpoint of a kind that is read here").at(path.string());
  weights_.emplace(open_weights(files->weights));
  if (!files->optimizer.empty()) optimizer_ = open_optimizer(files->optimizer);
  optimizer_file_ = files->optimizer;
  engine_ = weights_->kind();
  add_weights();
  if (optimizer_ && !is_numbered()) add_averages(nullptr);
  find_step(*files);
}

void ForeignCheckpoint::add_stored(Tensor tensor, const TensorSource& source, const SourceTensor& stored) {
  const std::string name = tensor.name;
  if (!add(std::move(tensor)).second)
    throw Error(ErrorKind::format, "stands there twice, as '" + stored.name + "' too")
        .at(source.path().string())
        .key(name);
  stored_.push_back({&source, &stored});
}

void ForeignCheckpoint::add_weights() {
  for (const SourceTensor& stored : weights_->tensors()) {
    if (is_original_module(stored.name) || !is_weight_dtype(stored.dtype)) continue;
    const bool trained = is_lora_name(stored.name) || stored.name.find(".modules_to_save.") != std::string::npos;
    add_stored({plain_name(stored.name), "master", DType::f32, stored.shape, trained}, *weights_, stored);
  }
}

bool ForeignCheckpoint::name_averages(const std::vector<std::vector<std::string>>& groups) {
  std::vector<std::string> names;
  std::vector<int64_t> counts;
  for (const std::vector<std::string>& group : groups) {
    names.insert(names.end(), group.begin(), group.end());
    counts.push_back(static_cast<int64_t>(group.size()));
  }
  if (counts != optimizer_->numbered_groups() || !optimizer_->steps()) return false;
  const std::vector<SourceTensor>& kept = optimizer_->tensors();
  if (std::count_if(kept.begin(), kept.end(), is_average) != 2 * static_cast<int64_t>(names.size())) return false;
  for (const SourceTensor& stored : kept) {
    const auto index = number_after(parts_of(stored).first, "");
    if (!index || *index >= static_cast<int64_t>(names.size()) || !is_adams(*optimizer_, stored)) return false;
    if (!fits(stored, find(names[static_cast<size_t>(*index)], "master"))) return false;
  }
  add_averages(&names);
  header_.set("optimizer_steps", *optimizer_->steps());
  return true;
}

void ForeignCheckpoint::add_averages(const std::vector<std::string>* names) {
  const std::string place = optimizer_->path().string();
  for (const SourceTensor& stored : optimizer_->tensors()) {
    const auto [parameter, key] = parts_of(stored);
    const std::string name =
        names ? (*names)[static_cast<size_t>(*number_after(parameter, ""))] : plain_name(parameter);
    if (!is_adams(*optimizer_, stored))
      throw Error(ErrorKind::config, "keeps " + key + " in " + to_string(stored.dtype) + ", want AdamW's exp_avg and " +
                                         "exp_avg_sq in floating point: no other optimizer's state is taken over")
          .at(place)
          .key(name)
          .help("merge the checkpoint, and begin a run with what comes of that");
    const Tensor* weight = find(name, "master");
    if (!fits(stored, weight))
      throw Error(ErrorKind::format, "keeps " + key + " of shape " + shape_text(stored.shape) + ", the weights hold " +
                                         (weight ? shape_text(weight->shape) : std::string("no such parameter")))
          .at(place)
          .key(name);
    tensors_[number_of(name, "master")].trained = true;
    add_stored({name, key, stored.dtype == DType::u8 ? DType::u8 : DType::f32, stored.shape}, *optimizer_, stored);
  }
  if (!optimizer_->steps())
    throw Error(ErrorKind::config,
                "does not say in a tensor how many steps it has taken (step), which corrects Adam's "
                "averages")
        .at(place)
        .help("merge the checkpoint, and begin a run with what comes of that");
}

void ForeignCheckpoint::find_step(const ForeignFiles& files) {
  std::optional<int64_t> step;
  if (!files.trainer_state.empty()) {
    const Value state = read_json(files.trainer_state);
    const Value* found = state.is_map() ? state.find("global_step") : nullptr;
    if (!found || !found->is_integer() || found->as_integer() < 0)
      throw Error(ErrorKind::format, "got " + (found ? describe(*found) : std::string("nothing")) + ", want a count")
          .at(files.trainer_state.string())
          .key("global_step");
    step = found->as_integer();
  }
  if (optimizer_ && !step) step = optimizer_->steps();
  const fs::path whole = whole_of(files.weights);
  for (const fs::path& folder : {files.weights, whole})
    for (const std::string_view before : {kStepFolder, kCheckpoint})
      if (!step) step = number_after(folder.filename().string(), before);
  header_ = Value::map({{"step", step.value_or(0)}});
  if (optimizer_ && !is_numbered()) header_.set("optimizer_steps", *optimizer_->steps());
}

void ForeignCheckpoint::read(const std::string& name, const std::string& kind, int64_t begin, int64_t count,
                             void* out) const {
  const size_t number = number_of(name, kind);
  const Stored& stored = stored_[number];
  if (stored.tensor->dtype == tensors_[number].dtype) return stored.source->read(*stored.tensor, begin, count, out);
  std::vector<std::byte> raw(static_cast<size_t>(count) * byte_size(stored.tensor->dtype));
  stored.source->read(*stored.tensor, begin, count, raw.data());
  to_fp32(stored.tensor->dtype, raw.data(), count, static_cast<float*>(out));
}

}  // namespace ft
