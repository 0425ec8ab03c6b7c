/// Files that hold tensors by name: safetensors with DCP_SHARDING_INFO, and what torch.save wrote (.bin, .pt, .pth).

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/formats/safetensors.h"
#include "engine/formats/source_readers.h"
#include "engine/formats/torch_file.h"
#include "engine/quant/block8.h"
#include "engine/quant/dynamic_map.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using Kind = PickleNode::Kind;

constexpr const char *kShardingInfo = "DCP_SHARDING_INFO", *kBin = "pytorch_model.bin",
                     *kFsdpBin = "pytorch_model_fsdp.bin", *kBinIndex = "pytorch_model.bin.index.json",
                     *kModel = "model.safetensors", *kModelIndex = "model.safetensors.index.json",
                     *kAdapter = "adapter_model.safetensors";

constexpr const char *kWholeFiles[] = {kAdapter, kModelIndex, kModel}, *kBinFiles[] = {kBin, kBinIndex, kFsdpBin};

const std::string* sharding_info(const SafetensorsFile& file) {
  for (const auto& [key, text] : file.metadata())
    if (key == kShardingInfo) return &text;
  return nullptr;
}

// The folder's safetensors files, sorted; torch puts shards into `sharded/` when it writes the merged model beside
// them.
std::vector<std::string> shard_files(const fs::path& path) {
  std::vector<std::string> names;
  for (const char* folder : {"", "sharded"}) {
    std::error_code ignored;
    for (const auto& file : fs::directory_iterator(path / folder, ignored))
      if (file.path().extension() == ".safetensors")
        names.push_back((fs::path(folder) / file.path().filename()).string());
    if (!names.empty() && folder[0] == '\0' &&
        std::none_of(names.begin(), names.end(), [](const std::string& name) { return name.starts_with("shard-"); }))
      names.clear();  // a merged model: look on for its shards
    if (!names.empty()) break;
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<int64_t> saved_offsets(const Value& info, const TensorEntry& entry, const std::string& file) {
  const Value* of_tensor = info.find(entry.name);
  const Value* offsets = of_tensor ? of_tensor->find("saved_offsets") : nullptr;
  if (!of_tensor) return std::vector<int64_t>(entry.shape.size(), 0);
  std::vector<int64_t> result;
  for (const Value& offset : offsets && offsets->is_list() ? offsets->as_list() : Value::List{})
    if (offset.is_integer() && offset.as_integer() >= 0 && offset.as_integer() < (int64_t{1} << 56))
      result.push_back(offset.as_integer());
  if (result.size() != entry.shape.size())
    throw Error(ErrorKind::format, "has saved_offsets " + (offsets ? describe(*offsets) : std::string("null")) +
                                       " for shape " + shape_text(entry.shape))
        .at(file)
        .key(entry.name);
  return result;
}

std::vector<int64_t> row_major(const std::vector<int64_t>& shape) {
  std::vector<int64_t> stride(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) stride[d - 1] = stride[d] * shape[d];
  return stride;
}

// One file's tensors into `tensors`, by name in the order in which they are first met.
void add_shard(TensorSourceBuilder& builder, const fs::path& path, const std::string& name,
               std::vector<SourceTensor>& tensors, std::map<std::string, size_t>& index) {
  const SafetensorsFile shard(path / name);
  if (!shard.unusable().empty()) shard.find(shard.unusable().begin()->first);  // throws, with the dtype
  const std::string* text = sharding_info(shard);
  const Value info = text ? parse_json(*text, (path / name).string() + " (" + kShardingInfo + ")") : Value::map();
  const size_t file = builder.open(name);
  for (const TensorEntry& entry : shard.entries()) {
    const auto [found, fresh] = index.emplace(entry.name, tensors.size());
    if (fresh) {
      tensors.push_back({.name = entry.name, .dtype = entry.dtype});
      tensors.back().shape.assign(entry.shape.size(), 0);
    }
    SourceTensor& tensor = tensors[found->second];
    const std::vector<int64_t> offsets = saved_offsets(info, entry, (path / name).string());
    if (tensor.dtype != entry.dtype || tensor.shape.size() != entry.shape.size())
      throw Error(ErrorKind::format, "is of another dtype or has other dims than in another shard")
          .at((path / name).string())
          .key(entry.name);
    for (size_t d = 0; d < offsets.size(); ++d)
      tensor.shape[d] = std::max(tensor.shape[d], offsets[d] + entry.shape[d]);
    tensor.pieces.push_back({offsets, entry.shape, row_major(entry.shape), file, shard.data_begin() + entry.begin});
  }
}

// The dict of tensors: the root, or what a training script put it under.
const PickleNode& tensors_of(const PickleNode& root) {
  for (const char* key : {"state_dict", "model", "module", "model_state_dict"})
    if (const PickleNode* inner = root.find(key); inner && inner->is(Kind::dict)) return *inner;
  return root;
}

void add_bin(TensorSourceBuilder& builder, const std::string& name, const std::map<std::string, std::string>& owners) {
  const size_t file = builder.open(name);
  const TorchFile archive(builder.file(file));
  const PickleNode& dict = tensors_of(archive.root());
  const std::string place = builder.file(file).path().string();
  if (!dict.is(Kind::dict))
    throw Error(ErrorKind::format, "holds " + describe(dict) + ", want a dict of tensors").at(place);
  std::set<std::string> held;
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const std::optional<TorchTensor> tensor = archive.tensor(*dict.items[i + 1]);
    if (!tensor) continue;
    if (!dict.items[i]->is(Kind::text))
      throw Error(ErrorKind::format, "has " + describe(*dict.items[i]) + " for a tensor's name").at(place);
    held.emplace(dict.items[i]->text);
    builder.add(whole_tensor(unwrapped_name(std::string(dict.items[i]->text)), *tensor, file));
  }
  for (const auto& [tensor, owner] : owners)
    if (owner == name && !held.contains(tensor))
      throw Error(ErrorKind::format, "is not in '" + name + "', as the index says").at(place).key(tensor);
}

TensorSource read_shards(const fs::path& path, const std::vector<std::string>& names, const char* kind) {
  TensorSourceBuilder builder(path);
  std::vector<SourceTensor> tensors;
  std::map<std::string, size_t> index;
  for (const std::string& name : names) add_shard(builder, path, name, tensors, index);
  for (SourceTensor& tensor : tensors) {
    tensor.name = unwrapped_name(tensor.name);
    builder.add(std::move(tensor));
  }
  return builder.finish(kind);
}

std::map<std::string, std::string> read_index(const fs::path& path) {
  const Value index = read_json(path, {.refuse_duplicates = true});
  const Value* weight_map = index.find("weight_map");
  if (!weight_map || !weight_map->is_map())
    throw Error(ErrorKind::format, "has no weight_map {tensor: file}").at(path.string());
  std::map<std::string, std::string> owners;
  for (const auto& [tensor, file] : weight_map->as_map()) {
    if (!file.is_string())
      throw Error(ErrorKind::format, "got " + describe(file) + ", want a file name").at(path.string()).key(tensor);
    owners[tensor] = file.as_string();
  }
  return owners;
}

// What bitsandbytes calls AdamW's averages, in fp32 or as codes, and the scales of the codes' blocks
// (bitsandbytes/optim/optimizer.py). Later versions keep all but the step in a dict of its own, which FSDP passes over.
constexpr std::pair<std::string_view, const char*> kBlockKeys[] = {
    {"state1", "exp_avg"}, {"state2", "exp_avg_sq"}, {"absmax1", "exp_avg_scale"}, {"absmax2", "exp_avg_sq_scale"}};
constexpr std::string_view kBlockDict = "__bnb_optimizer_quant_state__";

// Codes mean the same numbers where their map is ours, up to the rounding of whoever made it.
void check_map(const InputFile& file, const std::string& parameter, std::string_view key, const TorchTensor& map) {
  std::array<float, 256> got{};
  if (map.dtype == DType::f32 && map.shape == std::vector<int64_t>{256} && map.is_contiguous())
    file.read(map.offset, std::as_writable_bytes(std::span(got)));
  const std::array<float, 256>& want = key == "qmap1" ? signed_dynamic_map() : unsigned_dynamic_map();
  const auto near = [](float a, float b) { return std::abs(a - b) <= 1e-6f * std::abs(b); };
  if (!std::equal(got.begin(), got.end(), want.begin(), near))
    throw Error(ErrorKind::config, "has codes of another map than bitsandbytes' dynamic one (" + std::string(key) + ")")
        .at(file.path().string())
        .key(parameter);
}

// bitsandbytes before 0.45 has blocks of 2048 elements: their scales are shown as those of eight of ours each. The last
// ones may be beyond the tensor's end.
TorchTensor in_our_blocks(TorchTensor scales, const std::optional<TorchTensor>& codes) {
  constexpr int64_t kEarlier = 2048, kTimes = kEarlier / kBlock8;
  if (!codes || scales.shape.size() != 1 || codes->numel() <= kBlock8) return scales;
  if (scales.shape[0] != (codes->numel() + kEarlier - 1) / kEarlier) return scales;
  scales.shape.push_back(kTimes);
  scales.stride.push_back(0);
  return scales;
}

// What an optimizer keeps of a parameter.
void add_state(TensorSourceBuilder& builder, size_t file, const TorchFile& archive, const std::string& parameter,
               const PickleNode& kept) {
  for (const PickleNode* dict : {&kept, kept.find(kBlockDict)})
    for (size_t i = 0; dict && dict->is(Kind::dict) && i + 1 < dict->items.size(); i += 2) {
      const PickleNode &key = *dict->items[i], &value = *dict->items[i + 1];
      if (!key.is(Kind::text)) continue;
      if (key.text == "step") {
        add_steps(builder, file, archive, value);
        continue;
      }
      auto tensor = archive.tensor(value);
      if (!tensor) continue;
      if (const PickleNode* codes = dict->find(key.text == "absmax1" ? "state1" : "state2");
          codes && key.text.starts_with("absmax"))
        tensor = in_our_blocks(*tensor, archive.tensor(*codes));
      if (key.text == "qmap1" || key.text == "qmap2") {
        check_map(builder.file(file), parameter, key.text, *tensor);
        continue;
      }
      const auto* known = std::find_if(std::begin(kBlockKeys), std::end(kBlockKeys),
                                       [&](const auto& block) { return block.first == key.text; });
      const std::string name = known == std::end(kBlockKeys) ? std::string(key.text) : known->second;
      builder.add(whole_tensor(parameter + "." + name, *tensor, file));
    }
}

// How many parameters each group numbers; torch numbers them one after the other. Empty where it names them.
std::vector<int64_t> numbered_groups(const PickleNode& root, const fs::path& file) {
  const PickleNode* groups = root.find("param_groups");
  const std::vector<const PickleNode*> none;
  std::vector<int64_t> counts;
  int64_t next = 0;
  for (const PickleNode* group : groups && groups->is_sequence() ? groups->items : none) {
    const PickleNode* numbers = group->find("params");
    for (const PickleNode* number : numbers && numbers->is_sequence() ? numbers->items : none) {
      if (number->is(Kind::text)) return {};
      if (!number->is(Kind::integer) || number->integer != next++)
        throw Error(ErrorKind::format, "numbers its parameters by " + describe(*number)).at(file.string());
    }
    counts.push_back(next - std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  }
  return counts;
}

}  // namespace

bool is_sharded_safetensors(const fs::path& path) {
  if (!fs::is_directory(path)) return false;
  const std::vector<std::string> names = shard_files(path);
  return !names.empty() && sharding_info(SafetensorsFile(path / names[0])) != nullptr;
}

bool is_safetensors(const fs::path& path) {
  return std::any_of(std::begin(kWholeFiles), std::end(kWholeFiles),
                     [&](const char* name) { return fs::is_regular_file(path / name); });
}

TensorSource open_safetensors(const fs::path& path) {
  std::set<std::string> names;
  if (fs::exists(path / kAdapter)) {
    names.insert(kAdapter);
  } else if (fs::exists(path / kModelIndex)) {
    for (const auto& [tensor, file] : read_index(path / kModelIndex)) names.insert(file);
  } else {
    names.insert(kModel);
  }
  return read_shards(path, {names.begin(), names.end()}, "safetensors");
}

TensorSource open_sharded_safetensors(const fs::path& path) {
  return read_shards(path, shard_files(path), "sharded safetensors");
}

bool is_pytorch_bin(const fs::path& path) {
  if (fs::is_directory(path))
    return std::any_of(std::begin(kBinFiles), std::end(kBinFiles),
                       [&](const char* name) { return fs::exists(path / name); });
  const std::string extension = path.extension().string();
  return fs::is_regular_file(path) && (extension == ".bin" || extension == ".pt" || extension == ".pth");
}

TensorSource open_pytorch_bin(const fs::path& path) {
  const bool single = fs::is_regular_file(path), indexed = !single && fs::exists(path / kBinIndex);
  const fs::path parent = path.parent_path();
  TensorSourceBuilder builder(!single ? path : parent.empty() ? fs::path(".") : parent);
  std::map<std::string, std::string> owners;
  std::set<std::string> files{single ? path.filename().string() : fs::exists(path / kBin) ? kBin : kFsdpBin};
  if (indexed) {
    owners = read_index(path / kBinIndex);
    files.clear();
    for (const auto& [tensor, file] : owners) files.insert(file);
  }
  for (const std::string& name : files) add_bin(builder, name, owners);
  return builder.finish("a PyTorch file of weights");
}

TensorSource open_bin_optimizer(const fs::path& file) {
  TensorSourceBuilder builder(file.has_parent_path() ? file.parent_path() : fs::path("."));
  const size_t number = builder.open(file.filename().string());
  const TorchFile archive(builder.file(number));
  const PickleNode* states = archive.root().find("state");
  if (!states || !states->is(Kind::dict))
    throw Error(ErrorKind::format, "holds " + describe(archive.root()) + ", want an optimizer's state")
        .at(file.string());
  for (size_t i = 0; i + 1 < states->items.size(); i += 2) {
    const PickleNode &name = *states->items[i], &kept = *states->items[i + 1];
    if (!(name.is(Kind::text) || name.is(Kind::integer)) || !kept.is(Kind::dict)) continue;
    const std::string parameter =
        name.is(Kind::text) ? unwrapped_name(std::string(name.text)) : std::to_string(name.integer);
    add_state(builder, number, archive, parameter, kept);
  }
  builder.set_numbered_groups(numbered_groups(archive.root(), file));
  return builder.finish("an optimizer's file", SourcePart::optimizer);
}

}  // namespace ft
