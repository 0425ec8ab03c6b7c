#include "engine/merge/foreign_input.h"

#include <algorithm>
#include <set>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/formats/model_directory.h"
#include "engine/formats/peft_names.h"
#include "engine/merge/lora_terms.h"
#include "engine/tensor/half.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

bool holds_safetensors(const fs::path& path) {
  return fs::exists(path / "model.safetensors") || fs::exists(path / "model.safetensors.index.json");
}

}  // namespace

std::optional<fs::path> find_foreign(const fs::path& input) {
  if (auto found = find_tensor_source(input)) return found;
  if (holds_safetensors(input)) return input;
  return std::nullopt;
}

ForeignInput::ForeignInput(const fs::path& path, const MergeOptions& options) : path_(path) {
  if (source_kind(path) == SourceKind::none)
    directory_.emplace(path);
  else
    source_.emplace(open_tensor_source(path));
  find_config(path, options);
  list_tensors();
  if (!lora_.empty()) pair_lora();
  if (options.dtype)
    for (MergeTensor& tensor : tensors_)
      if (is_weight_dtype(tensor.stored)) tensor.target = *options.dtype;
  if (!options.model.empty() && holds_safetensors(options.model)) compare_with_base(options.model);
}

void ForeignInput::find_config(const fs::path& path, const MergeOptions& options) {
  const fs::path input = fs::absolute(options.input).lexically_normal(), folder = fs::absolute(path).lexically_normal();
  std::vector<fs::path> places{folder, input, folder.parent_path(), folder.parent_path().parent_path()};
  if (!options.model.empty()) places.insert(places.begin(), options.model);
  for (const fs::path& place : places) {
    if (adapter_.is_null() && fs::is_regular_file(place / "adapter_config.json"))
      adapter_ = read_json(place / "adapter_config.json");
    if (model_.empty() && fs::is_regular_file(place / "config.json")) model_ = place;
  }
  if (model_.empty())
    throw Error(ErrorKind::config, "there is no config.json of the model beside " + kind())
        .at(options.input.string())
        .help("name the base model with --model DIR: its config.json and tokenizer are taken along");
  config_ = read_json(model_ / "config.json");
  if (!config_.is_map())
    throw Error(ErrorKind::format, "got " + describe(config_) + ", want a map").at((model_ / "config.json").string());
}

void ForeignInput::list_tensors() {
  if (directory_) {
    directory_->check_all_usable();
    for (const TensorEntry* entry : directory_->tensors()) add_tensor(entry->name, entry->dtype, entry->shape);
    // What was quantized is written as what it stands for.
    if (directory_->has_quantized())
      std::erase_if(config_.as_map(), [](const auto& entry) { return entry.first == "quantization_config"; });
  } else {
    for (const SourceTensor& tensor : source_->tensors()) {
      const std::string name = plain_name(tensor.name);
      if (is_original_module(name)) continue;  // what was trained whole stands beside it
      if (!is_lora_name(name))
        add_tensor(tensor.name, tensor.dtype, tensor.shape);
      else if (!lora_.emplace(name, &tensor).second)
        throw Error(ErrorKind::format, "stands there twice").at(path_.string()).key(name);
    }
  }
  std::set<std::string> names;
  for (const MergeTensor& tensor : tensors_)
    if (!names.insert(tensor.name).second)
      throw Error(ErrorKind::format, "stands there twice").at(path_.string()).key(tensor.name);
}

void ForeignInput::add_tensor(const std::string& stored_name, DType dtype, const std::vector<int64_t>& shape) {
  const std::string name = plain_name(stored_name);
  if (is_tied_head(name)) return;
  tensors_.push_back({.name = name, .shape = shape, .stored = dtype, .target = dtype});
  stored_.push_back(stored_name);
}

void ForeignInput::pair_lora() {
  if (adapter_.is_null())
    throw Error(ErrorKind::config, "holds a LoRA adapter, and there is no adapter_config.json that says its scale")
        .at(path_.string())
        .help("put the adapter's adapter_config.json beside it");
  const auto find = [this](const std::string& name) -> const std::vector<int64_t>* {
    const auto found = lora_.find(name);
    return found == lora_.end() ? nullptr : &found->second->shape;
  };
  for (const auto& [name, tensor] : lora_)
    if (!is_weight_dtype(tensor->dtype))
      throw Error(ErrorKind::format, std::string("LoRA cannot be ") + to_string(tensor->dtype))
          .at(path_.string())
          .key(name);
  try {
    LoraTerms terms(adapter_, find);
    for (MergeTensor& tensor : tensors_) terms.fold_into(tensor);
    if (terms.used().size() != lora_.size())
      throw Error(ErrorKind::shape, "has " + std::to_string(lora_.size()) + " LoRA matrices and weights for " +
                                        std::to_string(terms.used().size()) + " of them")
          .help("is the base model in the checkpoint? an adapter alone is loaded by PEFT as it is");
  } catch (Error& error) {
    throw error.at(path_.string());
  }
}

// The base says which tensors there must be.
void ForeignInput::compare_with_base(const fs::path& base) const {
  const ModelDirectory model(base);
  std::vector<ExpectedTensor> expected;
  for (const TensorEntry* entry : model.tensors())
    if (!is_tied_head(entry->name)) expected.push_back({entry->name, entry->shape, false});
  std::vector<TensorEntry> entries;
  for (const MergeTensor& tensor : tensors_)
    entries.push_back({.name = tensor.name, .dtype = tensor.stored, .shape = tensor.shape});
  std::vector<const TensorEntry*> tensors;
  for (const TensorEntry& entry : entries) tensors.push_back(&entry);
  const auto find = [&](const std::string& name) -> const TensorEntry* {
    const auto found =
        std::find_if(entries.begin(), entries.end(), [&](const auto& entry) { return entry.name == name; });
    return found == entries.end() ? nullptr : &*found;
  };
  try {
    compare_tensors(expected, tensors, find, path_);
  } catch (Error& error) {
    throw error.help("is " + base.string() + " the model that was trained?");
  }
}

void ForeignInput::read(const MergeTensor& tensor, int64_t begin, int64_t count, void* out) const {
  const std::string& name = stored_[static_cast<size_t>(&tensor - tensors_.data())];
  if (source_) return source_->read(*source_->find(name), begin, count, out);
  const size_t width = byte_size(tensor.stored);
  directory_->read(name, static_cast<uint64_t>(begin) * width,
                   {static_cast<std::byte*>(out), static_cast<size_t>(count) * width});
}

void ForeignInput::read_lora(const std::string& name, int64_t begin, int64_t count, float* out) const {
  const SourceTensor& tensor = *lora_.at(name);
  std::vector<std::byte> raw(static_cast<size_t>(count) * byte_size(tensor.dtype));
  source_->read(tensor, begin, count, raw.data());
  to_fp32(tensor.dtype, raw.data(), count, out);
}

std::vector<fs::path> ForeignInput::companions() const { return companion_files(model_); }

}  // namespace ft
