#include "engine/formats/model_directory.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/hex_digits.h"
#include "engine/formats/json.h"
#include "engine/tensor/half.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";

// Lists at most a few names: "3 missing tensors: a, b, c".
std::string list_text(const char* what, const std::vector<std::string>& names) {
  constexpr size_t kMost = 8;
  std::string text = std::to_string(names.size()) + " " + what + (names.size() == 1 ? " tensor: " : " tensors: ");
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kMost) text += ", … and " + std::to_string(names.size() - kMost) + " more";
  return text;
}

bool is_rotary_buffer(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

// A file name in an index must stay in the directory. Links may lead out: the Hugging Face cache is made of them.
void check_inside(const std::string& name, const Origin& origin) {
  const fs::path file(name);
  const bool outside = file.is_absolute() || std::find(file.begin(), file.end(), fs::path("..")) != file.end();
  if (outside || file.empty())
    throw Error(ErrorKind::format, "got file '" + name + "', which lies outside the index's directory")
        .at(origin.str())
        .help("a weight_map names files of its own directory only");
}

}  // namespace

ModelDirectory::ModelDirectory(fs::path path) : path_(std::move(path)) {
  if (!fs::is_directory(path_))
    throw Error(ErrorKind::io, fs::exists(path_) ? "is no directory, want a Hugging Face model directory"
                                                 : "does not exist, want a Hugging Face model directory")
        .at(path_.string());
  config_ = read_json(path_ / "config.json");
  if (!config_.is_map())
    throw Error(ErrorKind::format, "got " + describe(config_) + ", want a map").at((path_ / "config.json").string());
  if (fs::exists(path_ / kIndexName)) {
    read_index(path_ / kIndexName);
  } else if (fs::exists(path_ / kSingleName)) {
    add_file(kSingleName);
  } else {
    const auto source = find_tensor_source(path_);
    if (!source)
      throw Error(ErrorKind::io, std::string("holds neither ") + kSingleName + " nor " + kIndexName)
          .at(path_.string())
          .help("give a directory with weights; `ftengine merge` makes one of another engine's checkpoint");
    add_pickled(*source);
  }
  find_quantized();
}

// Bytes follow one another in an order of their own: what is read is found by the tensor's name.
void ModelDirectory::add_pickled(const fs::path& source) {
  pickled_.emplace(open_tensor_source(source));
  for (const SourceTensor& tensor : pickled_->tensors()) {
    made_.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape});
    made_.back().end = static_cast<uint64_t>(tensor.numel()) * byte_size(tensor.dtype);
    made_index_[tensor.name] = &made_.back();
    tensors_.push_back(&made_.back());
  }
}

// Four-bit weights take the place of the tensors that they are stored as.
void ModelDirectory::find_quantized() {
  const auto find = [this](const std::string& name) { return this->find(name); };
  const auto read = [this](const TensorEntry& entry, uint64_t at, std::span<std::byte> out) {
    read_stored(entry, at, out);
  };
  std::set<std::string> parts;
  for (const TensorEntry* entry : tensors_) {
    const size_t at = entry->name.find(kBnbState);
    if (at == std::string::npos) continue;
    try {
      const BnbWeight& weight =
          quantized_.emplace(entry->name.substr(0, at), BnbWeight(entry->name.substr(0, at), entry->name, find, read))
              .first->second;
      parts.insert(weight.parts().begin(), weight.parts().end());
    } catch (Error& error) {
      throw error.at(path_.string());
    }
  }
  if (quantized_.empty()) return;
  std::vector<const TensorEntry*> tensors;
  for (const TensorEntry* entry : tensors_) {
    if (parts.contains(entry->name)) continue;
    if (const auto found = quantized_.find(entry->name); found != quantized_.end()) {
      made_.push_back({.name = entry->name, .dtype = found->second.dtype(), .shape = found->second.shape()});
      made_.back().end = static_cast<uint64_t>(made_.back().numel()) * byte_size(made_.back().dtype);
      made_index_[entry->name] = &made_.back();
      entry = &made_.back();
    }
    tensors.push_back(entry);
  }
  tensors_ = std::move(tensors);
}

void ModelDirectory::add_file(const std::string& name) {
  files_.push_back(std::make_unique<SafetensorsFile>(path_ / name));
  const SafetensorsFile& file = *files_.back();
  for (const TensorEntry& entry : file.entries()) {
    if (!owner_.emplace(entry.name, &file).second)
      throw Error(ErrorKind::format,
                  "stands in two files, '" + owner_[entry.name]->path().filename().string() + "' and '" + name + "'")
          .at(path_.string())
          .key(entry.name);
    tensors_.push_back(&entry);
  }
}

void ModelDirectory::read_index(const fs::path& index) {
  const Value value = read_json(index, {.refuse_duplicates = true});
  const Value* weight_map = value.find("weight_map");
  if (!weight_map || !weight_map->is_map())
    throw Error(ErrorKind::format, "has no weight_map {tensor: file}").at(index.string());
  std::map<std::string, const Value*> files;  // by name, so that the order does not depend on the index's
  for (const auto& [tensor, file] : weight_map->as_map()) {
    if (!file.is_string())
      throw Error(ErrorKind::format, "got " + describe(file) + ", want a file name").at(file.origin.str()).key(tensor);
    check_inside(file.as_string(), file.origin);
    files.emplace(file.as_string(), &file);
  }
  std::map<std::string, size_t> positions;
  for (const auto& [name, file] : files) {
    if (!fs::exists(path_ / name))
      throw Error(ErrorKind::io, "points at '" + name + "', which does not exist").at(file->origin.str());
    positions[name] = files_.size();
    add_file(name);
  }
  for (const auto& [tensor, file] : weight_map->as_map())
    if (!files_[positions.at(file.as_string())]->holds(tensor))
      throw Error(ErrorKind::format, "points at '" + file.as_string() + "', which does not hold this tensor")
          .at(file.origin.str())
          .key(tensor);
}

std::vector<std::string> ModelDirectory::names() const {
  std::vector<std::string> result;
  for (const TensorEntry* tensor : tensors_) result.push_back(tensor->name);
  return result;
}

void ModelDirectory::grow(const Growth& growth) {
  FT_CHECK(!growth_, "a model grows once");
  growth_ = growth;
  for (const TensorEntry*& tensor : tensors_) {
    if (std::find(growth.tensors.begin(), growth.tensors.end(), tensor->name) == growth.tensors.end()) continue;
    if (quantized(tensor->name))
      throw Error(ErrorKind::config, "is stored in four bits, and new tokens want more rows of it")
          .at(path_.string())
          .key(tensor->name)
          .help("add tokens to the model that was quantized, whose table is whole");
    try {
      tensor =
          &grown_.emplace(tensor->name, std::make_unique<const GrownTable>(*tensor, growth)).first->second->entry();
    } catch (Error& error) {
      throw error.at(path_.string());
    }
  }
}

const TensorEntry* ModelDirectory::find(const std::string& name) const {
  if (const auto grown = grown_.find(name); grown != grown_.end()) return &grown->second->entry();
  return find_stored(name);
}

const TensorEntry* ModelDirectory::find_stored(const std::string& name) const {
  if (const auto made = made_index_.find(name); made != made_index_.end()) return made->second;
  if (const auto owner = owner_.find(name); owner != owner_.end()) return owner->second->find(name);
  for (const auto& file : files_)
    if (const TensorEntry* entry = file->find(name)) return entry;  // throws for a dtype of no use
  return nullptr;
}

void ModelDirectory::check_all_usable() const {
  for (const auto& file : files_)
    if (!file->unusable().empty()) file->find(file->unusable().begin()->first);
}

void ModelDirectory::read_stored(const TensorEntry& entry, uint64_t byte_offset, std::span<std::byte> out) const {
  if (!pickled_) return owner_.at(entry.name)->read(entry, byte_offset, out);
  const size_t width = byte_size(entry.dtype);
  FT_CHECK(byte_offset % width == 0 && out.size() % width == 0, "elements are read whole");
  pickled_->read(*pickled_->find(entry.name), static_cast<int64_t>(byte_offset / width),
                 static_cast<int64_t>(out.size() / width), out.data());
}

void ModelDirectory::read(const std::string& name, uint64_t byte_offset, std::span<std::byte> out) const {
  const TensorEntry* entry = find_stored(name);
  if (!entry) throw Error(ErrorKind::format, "is missing").at(path_.string()).key(name);
  if (const auto grown = grown_.find(name); grown != grown_.end())
    return grown->second->read(byte_offset, out,
                               [&](uint64_t at, std::span<std::byte> bytes) { read_stored(*entry, at, bytes); });
  const BnbWeight* weight = quantized(name);
  if (!weight) return read_stored(*entry, byte_offset, out);
  const size_t width = byte_size(entry->dtype);
  FT_CHECK(byte_offset % width == 0 && out.size() % width == 0, "elements are read whole");
  std::vector<float> values(out.size() / width);
  weight->read_fp32(
      static_cast<int64_t>(byte_offset / width), static_cast<int64_t>(values.size()), values.data(),
      [this](const TensorEntry& part, uint64_t at, std::span<std::byte> bytes) { read_stored(part, at, bytes); });
  from_fp32(values.data(), static_cast<int64_t>(values.size()), entry->dtype, out.data());
}

const BnbWeight* ModelDirectory::quantized(const std::string& name) const {
  const auto found = quantized_.find(name);
  return found == quantized_.end() ? nullptr : &found->second;
}

void ModelDirectory::read_records(const BnbWeight& weight, int64_t begin, int64_t count, uint8_t* records) const {
  weight.read_records(begin, count, records, [this](const TensorEntry& part, uint64_t at, std::span<std::byte> bytes) {
    read_stored(part, at, bytes);
  });
}

void compare_tensors(std::span<const ExpectedTensor> expected, const std::vector<const TensorEntry*>& tensors,
                     const std::function<const TensorEntry*(const std::string&)>& find, const fs::path& place) {
  std::vector<std::string> missing, unexpected, misshapen, mistyped;
  std::set<std::string_view> wanted;
  for (const ExpectedTensor& want : expected) {
    wanted.insert(want.name);
    const TensorEntry* got = find(want.name);
    if (!got) {
      if (!want.optional) missing.push_back(want.name);
    } else if (got->shape != want.shape) {
      misshapen.push_back(want.name + " (got " + shape_text(got->shape) + ", want " + shape_text(want.shape) + ")");
    } else if (!is_weight_dtype(got->dtype)) {
      mistyped.push_back(want.name + " (got " + to_string(got->dtype) + ", want fp32, fp16 or bf16)");
    }
  }
  for (const TensorEntry* tensor : tensors)
    if (!wanted.contains(tensor->name) && !is_rotary_buffer(tensor->name)) unexpected.push_back(tensor->name);
  std::string text;
  const auto add = [&](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) text += (text.empty() ? "" : "; ") + list_text(what, names);
  };
  add("missing", missing);
  add("unexpected", unexpected);
  add("wrongly shaped", misshapen);
  add("wrongly typed", mistyped);
  if (!text.empty()) throw Error(ErrorKind::shape, text).at(place.string());
}

void ModelDirectory::check_tensors(std::span<const ExpectedTensor> expected) const {
  try {
    compare_tensors(
        expected, tensors_, [this](const std::string& name) { return find(name); }, path_);
  } catch (Error& error) {
    throw error.help("do config.json and the weights belong together?");
  }
}

std::vector<fs::path> ModelDirectory::companions() const { return companion_files(path_); }

std::string ModelDirectory::fingerprint() const {
  constexpr uint64_t kSample = 65536;
  std::string text;
  for (const auto& file : files_) {
    text += file->path().filename().string() + '\0' + std::to_string(file->size()) + '\0';
    for (const TensorEntry& entry : file->entries())
      text += entry.name + '\0' + safetensors_name(entry.dtype) + shape_text(entry.shape) + std::to_string(entry.begin);
    const InputFile bytes(file->path());
    std::string sample(std::min(kSample, bytes.size()), '\0');
    bytes.read((bytes.size() - sample.size()) / 2, std::as_writable_bytes(std::span(sample)));
    text += sample;
  }
  if (pickled_) {
    for (const TensorEntry& entry : made_)
      text += entry.name + '\0' + safetensors_name(entry.dtype) + shape_text(entry.shape);
    for (const TensorEntry& entry : made_) {
      const uint64_t width = byte_size(entry.dtype), count = std::min<uint64_t>(entry.bytes() / width, 64);
      std::string sample(count * width, '\0');
      read_stored(entry, (entry.bytes() / width - count) / 2 * width, std::as_writable_bytes(std::span(sample)));
      text += sample;
    }
  }
  return hex_digits(checksum(std::as_bytes(std::span(text))));
}

bool is_weight_dtype(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }

std::string plain_architecture(std::string_view name) {
  constexpr std::string_view kPrefix = "FSDP";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return std::string(name);
}

std::vector<fs::path> companion_files(const fs::path& directory) {
  constexpr std::array kNames = {"generation_config.json",
                                 "tokenizer.json",
                                 "tokenizer_config.json",
                                 "special_tokens_map.json",
                                 "added_tokens.json",
                                 "vocab.json",
                                 "merges.txt",
                                 "tokenizer.model",
                                 "chat_template.jinja",
                                 "chat_template.json"};
  std::vector<fs::path> result;
  for (const char* name : kNames)
    if (fs::is_regular_file(directory / name)) result.push_back(directory / name);
  return result;
}

}  // namespace ft
