/// DeepSpeed's ZeRO directories, stages 1 to 3 (deepspeed/utils/zero_to_fp32.py says what lies where): the ranks' flat
/// fp32 partitions of the trained weights, whole or flat frozen ones, and buffers. What the optimizer keeps lies in
/// tensors as long as the partitions (deepspeed/runtime/zero/stage_1_and_2.py and stage3.py, state_dict).

#include <algorithm>
#include <charconv>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "engine/error/error.h"
#include "engine/formats/source_readers.h"
#include "engine/formats/torch_file.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using Kind = PickleNode::Kind;

constexpr std::string_view kOptim = "_optim_states.pt", kModel = "_model_states.pt";

// "zero_pp_rank_3_mp_rank_00_optim_states.pt" -> 3, or nothing.
std::optional<int64_t> number_after(std::string_view name, std::string_view key) {
  const size_t at = name.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  int64_t number = 0;
  const char* begin = name.data() + at + key.size();
  return std::from_chars(begin, name.data() + name.size(), number).ec == std::errc() ? std::optional(number)
                                                                                     : std::nullopt;
}

// Files of a folder that end in `suffix`, by the number of their rank; one without a number is rank 0's.
std::map<int64_t, std::string> files_of(const fs::path& folder, std::string_view suffix) {
  std::map<int64_t, std::string> result;
  std::error_code ignored;
  for (const auto& file : fs::directory_iterator(folder, ignored)) {
    const std::string name = file.path().filename().string();
    if (!name.ends_with(suffix) || name.starts_with("layer_") || name.starts_with("expert_")) continue;
    if (number_after(name, "mp_rank_").value_or(0) != 0)
      throw Error(ErrorKind::format, "is of a model that was split by tensor parallelism, which is not read")
          .at(file.path().string());
    if (!result.emplace(number_after(name, "pp_rank_").value_or(0), name).second)
      throw Error(ErrorKind::format, "is of a rank that has another file").at(file.path().string());
  }
  return result;
}

fs::path folder_of(const fs::path& path) {
  if (!fs::is_regular_file(path / "latest")) return path;
  std::string tag = read_text(path / "latest");
  tag.erase(tag.find_last_not_of(" \r\n\t") + 1);
  const bool plain = !tag.empty() && tag.size() < 256 && tag.find('/') == std::string::npos && tag != "..";
  return plain ? path / tag : path;
}

// A rank's flat tensor.
struct Flat {
  size_t file;
  TorchTensor tensor;
};

class ZeroReader {
 public:
  ZeroReader(const fs::path& path, SourcePart part) : folder_(folder_of(path)), part_(part), builder_(folder_) {}

  TensorSource read() {
    const auto optim = files_of(folder_, kOptim), model = files_of(folder_, kModel);
    if (model.empty()) fail("", "holds no *" + std::string(kModel));
    read_optim(optim);
    for (const auto& [rank, name] : model) {
      if (rank != 0 && stage_ < 3) break;  // stages 1 and 2 hold the module alike on every rank
      models_.push_back(open(name));
    }
    if (stage_ >= 3 && static_cast<int64_t>(models_.size()) != world_)
      fail("",
           "holds " + std::to_string(models_.size()) + " *" + std::string(kModel) + ", want " + std::to_string(world_));
    const PickleNode& root = root_of(models_[0]);
    if (part_ == SourcePart::model)
      add_model(root);
    else
      add_optimizer(shapes(root));
    for (SourceTensor& tensor : tensors_) builder_.add(std::move(tensor));
    return builder_.finish("a DeepSpeed checkpoint, ZeRO stage " + std::to_string(stage_), part_);
  }

 private:
  struct Opened {
    size_t file;
    std::unique_ptr<TorchFile> archive;
  };
  using Flats = std::vector<std::vector<Flat>>;                                           // [rank][group]
  using Shapes = std::vector<std::vector<std::pair<std::string, std::vector<int64_t>>>>;  // of each group, in order

  Opened open(const std::string& name) {
    const size_t file = builder_.open(name);
    return {file, std::make_unique<TorchFile>(builder_.file(file))};
  }

  const PickleNode& root_of(const Opened& opened) const {
    const PickleNode& root = opened.archive->root();
    if (!root.is(Kind::dict))
      fail(builder_.file(opened.file).path().filename(), "holds " + describe(root) + ", want a dict");
    return root;
  }

  void add_model(const PickleNode& root) {
    add_frozen(root);
    add_trained(shapes(root));
    add_module(root);
    for (SourceTensor& tensor : tensors_) shared_[tensor.name] = tensor;
    add_shared(root);
  }

  // Each key's partitions are cut as those of the weights are.
  void add_optimizer(const Shapes& shapes) {
    const Flats weights = std::move(flats_);
    for (auto& [key, flats] : states_) {
      const size_t before = tensors_.size();
      if (flats.size() != weights.size()) fail(key, "is not kept by every rank's optimizer");
      flats_ = std::move(flats);
      for (const std::vector<Flat>& rank : flats_)
        if (rank.size() != weights[0].size()) fail(key, "is not kept of every group of parameters");
      add_trained(shapes);
      for (size_t i = before; i < tensors_.size(); ++i) tensors_[i].name = unwrapped_name(tensors_[i].name) + "." + key;
    }
  }

  void add_trained(const Shapes& shapes) { return stage_ >= 3 ? add_partitioned(shapes) : add_concatenated(shapes); }

  // Ranks' flat partitions.
  void read_optim(const std::map<int64_t, std::string>& files) {
    if (files.empty()) fail("", "holds no *" + std::string(kOptim) + ", where ZeRO keeps its fp32 weights");
    for (const auto& [rank, name] : files) {
      const Opened opened = open(name);
      const PickleNode* states = root_of(opened).find("optimizer_state_dict");
      const PickleNode* stage = states ? states->find("zero_stage") : nullptr;
      if (stage && stage->is(Kind::call) && stage->items.size() == 1) stage = stage->items[0];  // ZeroStageEnum(3)
      if (!stage || !stage->is(Kind::integer)) fail(name, "is no ZeRO checkpoint: it has no zero_stage");
      if (stage->integer < 1 || stage->integer > 3) fail(name, "has ZeRO stage " + std::to_string(stage->integer));
      stage_ = stage->integer;
      if (flats_.empty()) read_partitions(*states, name);
      const char* key = stage_ >= 3 ? "fp32_flat_groups" : "single_partition_of_fp32_groups";
      const PickleNode* groups = states->find(key);
      if (!groups || !groups->is_sequence()) fail(name, std::string("has no list ") + key);
      flats_.emplace_back();
      for (const PickleNode* group : groups->items) flats_.back().push_back(flat(opened, *group, name));
      if (flats_.back().size() != flats_.front().size()) fail(name, "has another number of groups than rank 0");
      if (part_ == SourcePart::optimizer) read_states(opened, *states, name);
    }
    if (static_cast<int64_t>(flats_.size()) != world_)
      fail("", "holds " + std::to_string(flats_.size()) + " *" + std::string(kOptim) + ", want " +
                   std::to_string(world_) + ": a rank's file is missing, or left from another save");
  }

  // What a rank's optimizer keeps of its partitions: torch's state_dict, in stages 1 and 2 also the list of its
  // entries.
  void read_states(const Opened& opened, const PickleNode& states, const std::string& name) {
    const PickleNode* dict = states.find(stage_ >= 3 ? "optimizer_state_dict" : "base_optimizer_state");
    const PickleNode *inner = dict && dict->is(Kind::dict) ? dict->find("state") : dict,
                     *groups = dict ? dict->find("param_groups") : nullptr;
    add_steps(opened, states.find("base_optimizer_state_step"));
    for (const PickleNode* group : groups && groups->is_sequence() ? groups->items : std::vector<const PickleNode*>())
      add_steps(opened, group->find("step"));
    for (size_t i = 0; inner && i < flats_.back().size(); ++i) {
      const PickleNode* kept = entry(*inner, i);
      for (size_t j = 0; kept && kept->is(Kind::dict) && j + 1 < kept->items.size(); j += 2)
        add_state(opened, *kept->items[j], *kept->items[j + 1], name);
    }
  }

  void add_state(const Opened& opened, const PickleNode& key, const PickleNode& value, const std::string& name) {
    if (key.is(Kind::text) && key.text == "step") return add_steps(opened, &value);
    const std::optional<TorchTensor> found = opened.archive->tensor(value);
    if (!found || found->shape.empty() || !key.is(Kind::text)) return;
    Flats& flats = states_[std::string(key.text)];
    flats.resize(flats_.size());
    Flat kept = flat(opened, value, name);
    const size_t group = flats.back().size();
    const int64_t want = group < flats_.back().size() ? flats_.back()[group].tensor.numel() : 0;
    // The weights' partitions are saved without the padding of the last rank's.
    if (kept.tensor.numel() < want)
      fail(name, "keeps " + std::to_string(kept.tensor.numel()) + " elements of " + std::string(key.text) + " for " +
                     std::to_string(want) + " weights");
    kept.tensor.shape[0] = want;
    flats.back().push_back(std::move(kept));
  }

  void add_steps(const Opened& opened, const PickleNode* node) {
    if (node && !node->is(Kind::none)) ft::add_steps(builder_, opened.file, *opened.archive, *node);
  }

  // An entry of a list, or of a dict by number; nullptr where there is none.
  static const PickleNode* entry(const PickleNode& node, size_t number) {
    if (node.is_sequence()) return number < node.items.size() ? node.items[number] : nullptr;
    for (size_t i = 0; node.is(Kind::dict) && i + 1 < node.items.size(); i += 2)
      if (node.items[i]->is(Kind::integer) && node.items[i]->integer == static_cast<int64_t>(number))
        return node.items[i + 1];
    return nullptr;
  }

  void read_partitions(const PickleNode& states, const std::string& name) {
    const PickleNode* count = states.find("partition_count");
    for (const PickleNode* one : count && count->is_sequence() ? count->items : std::vector<const PickleNode*>{count})
      if (one && one->is(Kind::integer)) world_ = std::max(world_, one->integer);
    if (world_ < 1) fail(name, "has no partition_count");
    if (const PickleNode* paddings = states.find("param_alignment_paddings"); paddings && paddings->is_sequence())
      for (const PickleNode* group : paddings->items) {
        const auto counts = pickled_sizes(*group);
        if (!counts) fail(name, "has param_alignment_paddings of " + describe(*group));
        paddings_.push_back(*counts);
      }
  }

  Flat flat(const Opened& opened, const PickleNode& node, const std::string& name) const {
    const std::optional<TorchTensor> tensor = opened.archive->tensor(node);
    if (!tensor || tensor->shape.size() != 1 || !tensor->is_contiguous())
      fail(name, "has a partition that is no flat tensor");
    return {opened.file, *tensor};
  }

  Shapes shapes(const PickleNode& root) const {
    const PickleNode* list = root.find("param_shapes");
    if (!list) fail("param_shapes", "is missing in *" + std::string(kModel));
    Shapes result;
    for (const PickleNode* group : list->is_sequence() ? list->items : std::vector<const PickleNode*>{list}) {
      result.emplace_back();
      for (size_t i = 0; group->is(Kind::dict) && i + 1 < group->items.size(); i += 2)
        result.back().emplace_back(text(*group->items[i]), shape(*group->items[i + 1]));
    }
    return result;
  }

  std::string text(const PickleNode& node) const {
    if (!node.is(Kind::text)) fail("", "has " + describe(node) + " for a parameter's name");
    return std::string(node.text);
  }
  std::vector<int64_t> shape(const PickleNode& node) const {
    const auto result = pickled_sizes(node);
    if (!result) fail("", "has " + describe(node) + " for a parameter's shape");
    return *result;
  }
  int64_t numel(const std::string& name, const std::vector<int64_t>& shape) const {
    int64_t n = 1;
    for (const int64_t dim : shape)
      if (__builtin_mul_overflow(n, dim, &n) || n > (int64_t{1} << 56)) fail(name, "has a shape that nothing can hold");
    return n;
  }

  static TensorPiece piece_of(const Flat& flat, int64_t in_flat, int64_t begin, int64_t count) {
    return {{begin},
            {count},
            {1},
            flat.file,
            flat.tensor.offset + static_cast<uint64_t>(in_flat) * byte_size(flat.tensor.dtype)};
  }

  // Stages 1 and 2: the ranks' partitions one after the other are the group's weights one after the other.
  void add_concatenated(const Shapes& shapes) {
    if (shapes.size() != flats_[0].size())
      fail("param_shapes",
           "has " + std::to_string(shapes.size()) + " groups, want " + std::to_string(flats_[0].size()));
    for (size_t group = 0; group < shapes.size(); ++group) {
      if (!paddings_.empty() && (paddings_.size() != shapes.size() || paddings_[group].size() != shapes[group].size()))
        fail("param_alignment_paddings", "has another number of parameters than param_shapes");
      int64_t offset = 0;
      for (size_t i = 0; i < shapes[group].size(); ++i) {
        const auto& [name, shape] = shapes[group][i];
        SourceTensor tensor{.name = name, .dtype = flats_[0][group].tensor.dtype, .shape = shape};
        const int64_t count = numel(name, shape);
        int64_t begin = 0;  // of the rank's partition in the group
        for (const std::vector<Flat>& rank : flats_) {
          const int64_t end = begin + rank[group].tensor.numel();
          const int64_t from = std::max(begin, offset), to = std::min(end, offset + count);
          if (from < to) tensor.pieces.push_back(piece_of(rank[group], from - begin, from - offset, to - from));
          begin = end;
        }
        offset += count + (paddings_.empty() ? 0 : paddings_[group][i]);
        tensors_.push_back(std::move(tensor));
      }
      check_used(offset, group);
    }
  }

  // Padding brings a group to a multiple of 2 · world: more than that left over, and something was misread.
  void check_used(int64_t used, size_t group) const {
    const int64_t align = 2 * world_;
    int64_t has = 0;
    for (const std::vector<Flat>& rank : flats_) has += rank[group].tensor.numel();
    const auto aligned = [&](int64_t n) { return (n + align - 1) / align; };
    if (aligned(used) != aligned(has))
      fail("param_shapes", "takes " + std::to_string(used) + " elements of " + std::to_string(has) + " in group " +
                               std::to_string(group));
  }

  // Stage 3: each parameter is cut in equal parts, and every rank has its own at the same place.
  void add_partitioned(const Shapes& shapes) {
    std::vector<int64_t> ends;  // of each group, along the rank's flat groups
    for (const Flat& flat : flats_[0]) ends.push_back((ends.empty() ? 0 : ends.back()) + flat.tensor.numel());
    for (const std::vector<Flat>& rank : flats_)
      for (size_t group = 0; group < rank.size(); ++group)
        if (rank[group].tensor.numel() != flats_[0][group].tensor.numel())
          fail("fp32_flat_groups", "are of another size on another rank");
    int64_t offset = 0;
    for (const auto& group : shapes)
      for (const auto& [name, shape] : group) {
        SourceTensor tensor{
            .name = name, .dtype = flats_[0].empty() ? DType::f32 : flats_[0][0].tensor.dtype, .shape = shape};
        const int64_t count = numel(name, shape), part = (count + world_ - 1) / world_;
        for (int64_t rank = 0; rank < world_; ++rank) {
          const int64_t begin = rank * part, wanted = std::min(part, count - begin);
          add_part(tensor, ends, {rank, offset, begin, wanted});
        }
        offset += part;
        tensors_.push_back(std::move(tensor));
      }
    if (offset != (ends.empty() ? 0 : ends.back()))
      fail("param_shapes",
           "takes " + std::to_string(offset) + " elements a rank of " + std::to_string(ends.empty() ? 0 : ends.back()));
  }

  struct Part {
    int64_t rank, offset, begin, count;  // `count` elements at `offset` of the rank are the tensor's from `begin` on
  };
  void add_part(SourceTensor& tensor, const std::vector<int64_t>& ends, Part part) {
    for (size_t group = 0; group < ends.size() && part.count > 0; ++group) {
      if (part.offset >= ends[group]) continue;
      const int64_t here = std::min(part.count, ends[group] - part.offset);
      const Flat& flat = flats_[static_cast<size_t>(part.rank)][group];
      tensor.pieces.push_back(piece_of(flat, part.offset - (ends[group] - flat.tensor.numel()), part.begin, here));
      part = {part.rank, part.offset + here, part.begin + here, part.count - here};
    }
  }

  // What the module holds and no optimizer keeps: buffers, and in stages 1 and 2, where the module is whole on every
  // rank, frozen weights too. (Stage 1 lists frozen ones nowhere else.)
  void add_module(const PickleNode& root) {
    const PickleNode *buffers = root.find("buffer_names"), *module = root.find("module"),
                     *shared = root.find("shared_params");
    std::set<std::string_view> listed, named;
    for (const SourceTensor& tensor : tensors_) listed.insert(tensor.name);
    for (const PickleNode* name : buffers ? buffers->items : std::vector<const PickleNode*>())
      if (name->is(Kind::text)) named.insert(name->text);
    std::vector<SourceTensor> more;
    for (size_t i = 0; module && module->is(Kind::dict) && i + 1 < module->items.size(); i += 2) {
      const std::string name = text(*module->items[i]);
      if (listed.contains(name) || (shared && shared->find(name)) || (stage_ >= 3 && !named.contains(name))) continue;
      if (const auto tensor = models_[0].archive->tensor(*module->items[i + 1]))
        more.push_back(whole_tensor(name, *tensor, models_[0].file));
    }
    std::move(more.begin(), more.end(), std::back_inserter(tensors_));
  }

  void add_frozen(const PickleNode& root) {
    const PickleNode* list = root.find("frozen_param_shapes");
    for (size_t i = 0; list && list->is(Kind::dict) && i + 1 < list->items.size(); i += 2) {
      SourceTensor tensor{.name = text(*list->items[i]), .shape = shape(*list->items[i + 1])};
      const int64_t count = numel(tensor.name, tensor.shape);
      int64_t begin = 0;
      for (const Opened& model : models_) {
        const PickleNode* fragments = root_of(model).find("frozen_param_fragments");
        const PickleNode* node = fragments ? fragments->find(tensor.name) : nullptr;
        const std::optional<TorchTensor> part = node ? model.archive->tensor(*node) : std::nullopt;
        if (!part || !part->is_contiguous()) fail(tensor.name, "is frozen, and a rank has no part of it");
        const int64_t here = std::min(part->numel(), count - begin);
        if (here > 0) tensor.pieces.push_back({{begin}, {here}, {1}, model.file, part->offset});
        tensor.dtype = part->dtype;
        begin += here;
      }
      tensors_.push_back(std::move(tensor));
    }
  }

  // Tied parameters: the other name of each.
  void add_shared(const PickleNode& root) {
    const PickleNode* pairs = root.find("shared_params");
    for (size_t i = 0; pairs && pairs->is(Kind::dict) && i + 1 < pairs->items.size(); i += 2) {
      const auto found = shared_.find(text(*pairs->items[i + 1]));
      if (found == shared_.end() || shared_.contains(text(*pairs->items[i]))) continue;
      tensors_.push_back(found->second);
      tensors_.back().name = text(*pairs->items[i]);
    }
    for (SourceTensor& tensor : tensors_) tensor.name = unwrapped_name(tensor.name);
  }

  [[noreturn]] void fail(const std::string& key, const std::string& message) const {
    throw Error(ErrorKind::format, message).at(folder_.string()).key(key);
  }

  fs::path folder_;
  SourcePart part_;
  TensorSourceBuilder builder_;
  std::vector<Opened> models_;
  Flats flats_;                          // of the weights, or of what is added
  std::map<std::string, Flats> states_;  // by the optimizer's key
  std::vector<std::vector<int64_t>> paddings_;
  std::vector<SourceTensor> tensors_;
  std::map<std::string, SourceTensor> shared_;  // by the names as they are saved
  int64_t stage_ = 0, world_ = 0;
};

}  // namespace

bool is_zero(const fs::path& path) {
  if (!fs::is_directory(path)) return false;
  std::error_code ignored;
  for (const auto& file : fs::directory_iterator(folder_of(path), ignored)) {
    const std::string name = file.path().filename().string();
    if (name.ends_with(kModel) || name.ends_with(kOptim)) return true;
  }
  return false;
}

TensorSource open_zero(const fs::path& path, SourcePart part) { return ZeroReader(path, part).read(); }

}  // namespace ft
