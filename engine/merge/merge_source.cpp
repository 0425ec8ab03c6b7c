#include "engine/merge/merge_source.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/formats/peft_adapter.h"
#include "engine/merge/lora_terms.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMaster = "master";

DType config_dtype(const Value& config) {
  for (const char* key : {"dtype", "torch_dtype"})
    if (const Value* value = config.find(key); value && value->is_string())
      if (const auto dtype = dtype_from_name(value->as_string()); dtype && is_weight_dtype(*dtype)) return *dtype;
  return DType::f32;
}

// A trained tensor that finds no weight would be lost without a word.
[[noreturn]] void refuse_unused(const std::string& lora) {
  const bool bias = lora.ends_with(".lora_B.bias");
  throw Error(ErrorKind::shape,
              bias ? "the base has no bias that lora_bias could be added to" : "the base has no weight for it")
      .key(lora)
      .help(bias ? "PEFT does not merge it either; --adapter-only writes the adapter, which needs no base"
                 : "is it the model that the run was trained on? --adapter-only needs no base");
}

}  // namespace

int64_t MergeTensor::numel() const {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  return n;
}

MergeSource::MergeSource(const MergeOptions& options) {
  open_run(options);
  read_adapter();
  const Value* grown = run_.find("grown");
  const bool grows = grown && grown->is_map();
  if (!options.adapter_only || grows) open_base(options);
  if (grows && base_) base_->grow(Growth::read(*grown));
  if (!options.adapter_only) {
    list_tensors(options);
    if (!adapter_.is_null()) fold_adapter();
    dequantizes_ = base_of(options) == MergeBase::dequantized;
    if (dequantizes_) choose_dequantized();
  }
  checkpoint_
      ->verify();  // last, since it reads every shard: a byte that changed on the disk must not pass into a model
}

void MergeSource::open_run(const MergeOptions& options) {
  fs::path input = fs::absolute(options.input).lexically_normal();
  if (!input.has_filename()) input = input.parent_path();
  if (!fs::is_directory(input))
    throw Error(ErrorKind::io, fs::exists(input) ? "is no directory, want a run directory or a checkpoint"
                                                 : "does not exist, want a run directory or a checkpoint")
        .at(input.string());
  const bool is_run = fs::exists(input / "run.json");
  if (is_run) {
    run_directory_ = input;
    std::string passed_over;
    const auto newest = newest_checkpoint(input, &passed_over);
    if (!newest)
      throw Error(ErrorKind::config, "holds no whole checkpoint" + (passed_over.empty() ? "" : ": " + passed_over))
          .at(input.string())
          .help("let the run save one first");
    checkpoint_.emplace(*newest);
  } else {
    if (!checkpoint_step(input) && !fs::exists(input / "manifest.json"))
      throw Error(ErrorKind::config, "is neither a run directory (run.json) nor a checkpoint (manifest.json)")
          .at(input.string())
          .help(
              "of other engines it is the folder that holds .metadata, shard-*.safetensors, pytorch_model.bin, or "
              "DeepSpeed's `latest` or *_model_states.pt; of Hugging Face config.json and weights");
    run_directory_ = input.parent_path();
    checkpoint_.emplace(input);
  }
  run_ = read_json(run_directory_ / "run.json");
  config_ = read_json(run_directory_ / "config.json");
}

void MergeSource::read_adapter() {
  const auto& tensors = checkpoint_->tensors();
  const bool has_lora = std::any_of(tensors.begin(), tensors.end(), [](const Checkpoint::Tensor& tensor) {
    return tensor.kind == kMaster && is_lora_name(tensor.name);
  });
  if (!has_lora) return;
  adapter_ = read_json(run_directory_ / "adapter_config.json");
  check_peft_config(adapter_);
}

void MergeSource::open_base(const MergeOptions& options) {
  fs::path path = options.model;
  if (path.empty()) path = run_.get("base_model", "");
  if (path.empty()) {
    if (!adapter_.is_null())
      throw Error(ErrorKind::config, "names no base model, so there is nothing to fold LoRA into")
          .at((run_directory_ / "run.json").string())
          .key("base_model")
          .help("use --adapter-only");
    return;
  }
  try {
    base_.emplace(path);
  } catch (Error& error) {
    if (!fs::exists(path)) error.help("if the base model has moved, name it with --model DIR");
    throw error.context("opening the base model");
  }
  const std::string want = run_.get("model_fingerprint", ""), got = base_->fingerprint();
  if (!want.empty() && want != got)
    throw Error(ErrorKind::config,
                "is not the model that the run was trained on: got fingerprint " + got + ", want " + want)
        .at(path.string())
        .help("name the right one with --model DIR");
}

void MergeSource::list_tensors(const MergeOptions& options) {
  std::set<std::string> listed;
  if (base_) {
    base_->check_all_usable();
    // What was quantized is written as what it stands for, with LoRA folded in.
    if (base_->has_quantized())
      std::erase_if(config_.as_map(), [](const auto& entry) { return entry.first == "quantization_config"; });
    for (const TensorEntry* entry : base_->tensors()) {
      if (is_tied_head(entry->name)) continue;  // the embedding's weights are the head's
      tensors_.push_back(base_tensor(*entry));
      listed.insert(entry->name);
    }
  }
  const DType other = config_dtype(config_);
  for (const Checkpoint::Tensor& tensor : checkpoint_->tensors()) {
    if (tensor.kind != kMaster || is_lora_name(tensor.name) || listed.contains(tensor.name)) continue;
    if (is_tied_head(tensor.name)) continue;
    tensors_.push_back({.name = tensor.name,
                        .shape = tensor.shape,
                        .stored = tensor.dtype,
                        .target = is_weight_dtype(tensor.dtype) ? other : tensor.dtype,
                        .from_checkpoint = true});
  }
  if (options.dtype)
    for (MergeTensor& tensor : tensors_)
      if (is_weight_dtype(tensor.stored)) tensor.target = *options.dtype;
}

MergeTensor MergeSource::base_tensor(const TensorEntry& entry) const {
  MergeTensor result{.name = entry.name, .shape = entry.shape, .stored = entry.dtype, .target = entry.dtype};
  if (const Checkpoint::Tensor* trained = checkpoint_->find(entry.name, kMaster)) {
    if (trained->shape != entry.shape)
      throw Error(ErrorKind::shape,
                  "the checkpoint has " + shape_text(trained->shape) + ", the base " + shape_text(entry.shape))
          .at(checkpoint_->path().string())
          .key(entry.name);
    result.stored = trained->dtype;
    result.from_checkpoint = true;
  }
  return result;
}

void MergeSource::fold_adapter() {
  try {
    LoraTerms terms(adapter_, [this](const std::string& name) {
      const Checkpoint::Tensor* tensor = checkpoint_->find(name, kMaster);
      return tensor ? &tensor->shape : nullptr;
    });
    for (MergeTensor& tensor : tensors_) terms.fold_into(tensor);
    for (const Checkpoint::Tensor& tensor : checkpoint_->tensors())
      if (tensor.kind == kMaster && is_lora_name(tensor.name) && !terms.used().contains(tensor.name))
        refuse_unused(tensor.name);
  } catch (Error& error) {
    throw error.at(checkpoint_->path().string());
  }
}

MergeBase MergeSource::base_of(const MergeOptions& options) const {
  if (adapter_.is_null() || !goes_with_nf4(adapter_)) return options.base.value_or(MergeBase::original);
  if (options.base == MergeBase::original)
    throw Error(ErrorKind::config,
                "LoRA began by LoftQ: it makes up for what four bits take away from the base, which "
                "the original weights still have")
        .at((run_directory_ / "adapter_config.json").string())
        .key("--base")
        .help("leave --base away, or write --base dequantized");
  return MergeBase::dequantized;
}

void MergeSource::choose_dequantized() {
  const Value* names = run_.find("quantized");
  if (!names || !names->is_list() || names->as_list().empty())
    throw Error(ErrorKind::config, "the run's base was not quantized, so there is nothing to dequantize")
        .at((run_directory_ / "run.json").string())
        .key("quantized")
        .help("leave --base dequantized away");
  std::set<std::string> missing;
  for (const Value& name : names->as_list()) missing.insert(name.as_string());
  // What the base holds in four bits is read as what it is dequantized to: training saw no other weights.
  for (MergeTensor& tensor : tensors_)
    tensor.dequantized = missing.erase(tensor.name) > 0 && !base_->quantized(tensor.name);
  if (!missing.empty())
    throw Error(ErrorKind::shape, "the base lacks this weight, which the run quantized")
        .at(base_->path().string())
        .key(*missing.begin());
}

std::vector<const TensorEntry*> MergeSource::grown_tables() const {
  std::vector<const TensorEntry*> tables;
  if (!base_) return tables;
  for (const TensorEntry* entry : base_->tensors())
    if (base_->is_grown(entry->name) && !is_tied_head(entry->name) && !checkpoint_->find(entry->name, kMaster))
      tables.push_back(entry);
  return tables;
}

void MergeSource::read(const MergeTensor& tensor, int64_t begin, int64_t count, void* out) const {
  if (tensor.from_checkpoint) return checkpoint_->read(tensor.name, kMaster, begin, count, out);
  const auto width = byte_size(tensor.stored);
  base_->read(tensor.name, static_cast<uint64_t>(begin) * width,
              {static_cast<std::byte*>(out), static_cast<size_t>(count) * width});
}

void MergeSource::read_lora(const std::string& name, int64_t begin, int64_t count, float* out) const {
  checkpoint_->read(name, kMaster, begin, count, out);
}

// The run's own copies first: they are what it was trained with, wherever the base has gone.
std::vector<fs::path> MergeSource::companions() const {
  std::vector<fs::path> files = companion_files(run_directory_);
  if (files.empty() && base_) files = base_->companions();
  return files;
}

}  // namespace ft
