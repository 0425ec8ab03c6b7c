/// Directories of torch.distributed.checkpoint (torch/distributed/checkpoint/filesystem.py, metadata.py): `.metadata`,
/// a pickle that says which box of which tensor lies where, and `__R_K.distcp` files of archives one after the other.

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "engine/error/error.h"
#include "engine/formats/source_readers.h"
#include "engine/formats/torch_file.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using Kind = PickleNode::Kind;

constexpr const char* kMetadata = ".metadata";
constexpr std::string_view kModule = "torch.distributed.checkpoint.metadata.";

class DcpReader {
 public:
  DcpReader(const fs::path& path, SourcePart part)
      : path_(path), part_(part), metadata_(read_pickle(path / kMetadata)), builder_(path) {}

  TensorSource read() {
    const PickleNode& root = metadata_.root();
    if (!is_a(root, "Metadata")) fail("", "holds " + describe(root) + ", want a Metadata");
    read_storage(*entry(root, "storage_data", Kind::dict));
    const PickleNode& tensors = *entry(root, "state_dict_metadata", Kind::dict);
    const std::vector<std::string> names = names_of(tensors, root.state->find("planner_data"));
    for (size_t i = 0; i + 1 < tensors.items.size(); i += 2)
      if (!names[i / 2].empty()) add(names[i / 2], std::string(tensors.items[i]->text), *tensors.items[i + 1]);
    return builder_.finish("a torch.distributed.checkpoint", part_);
  }

 private:
  struct Stored {
    std::string file;
    uint64_t offset, length;
  };

  static Pickle read_pickle(const fs::path& path) {
    const InputFile file(path);
    if (const PickleLimits limits; file.size() > limits.bytes)
      throw Error(ErrorKind::format,
                  "has " + std::to_string(file.size()) + " bytes, want at most " + std::to_string(limits.bytes))
          .at(path.string());
    std::vector<char> bytes(file.size());
    file.read(0, std::as_writable_bytes(std::span(bytes)));
    return Pickle(std::move(bytes), path.string());
  }

  static bool is_a(const PickleNode& node, std::string_view type) {
    return node.is(Kind::call) && node.text.starts_with(kModule) && node.text.substr(kModule.size()) == type &&
           node.state != nullptr;
  }

  // An entry of an object's attributes.
  const PickleNode* entry(const PickleNode& node, std::string_view key, Kind kind) const {
    const PickleNode* found = node.state ? node.state->find(key) : nullptr;
    if (!found || !found->is(kind))
      fail(std::string(key), "is " + (found ? describe(*found) : std::string("missing")) + " in " + describe(node));
    return found;
  }

  std::vector<int64_t> sizes(const PickleNode& node, std::string_view key) const {
    const PickleNode* found = node.state ? node.state->find(key) : nullptr;
    const auto result = found ? pickled_sizes(*found) : std::nullopt;
    if (!result)
      fail(std::string(key), "is " + (found ? describe(*found) : std::string("missing")) + ", want a torch.Size");
    return *result;
  }

  // The box that an index names: the tensor's key and where the box begins.
  static std::string place(std::string_view key, const std::vector<int64_t>& offsets) {
    std::string text(key);
    for (const int64_t offset : offsets) text += '\0' + std::to_string(offset);
    return text;
  }

  void read_storage(const PickleNode& dict) {
    for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const PickleNode &index = *dict.items[i], &info = *dict.items[i + 1];
      if (!is_a(index, "MetadataIndex"))
        fail("storage_data", "has " + describe(index) + " for a key, want a MetadataIndex");
      const PickleNode* offset = index.state->find("offset");
      if (!offset || offset->is(Kind::none)) continue;  // an object that is no tensor
      const int64_t begin = entry(info, "offset", Kind::integer)->integer,
                    length = entry(info, "length", Kind::integer)->integer;
      const std::string key(entry(index, "fqn", Kind::text)->text);
      const PickleNode* transforms = info.state->find("transform_descriptors");
      if (transforms && !transforms->is(Kind::none) && !(transforms->is_sequence() && transforms->items.empty()))
        fail(key, "is stored through " + describe(*transforms) + ", which is not read");
      if (begin < 0 || length < 0) fail(key, "is stored at byte " + std::to_string(begin));
      stored_[place(key, sizes(index, "offset"))] = {std::string(entry(info, "relative_path", Kind::text)->text),
                                                     static_cast<uint64_t>(begin), static_cast<uint64_t>(length)};
    }
  }

  // Names of the part's tensors; "" for what is none of its.
  std::vector<std::string> names_of(const PickleNode& tensors, const PickleNode* planner) const {
    std::map<std::string_view, const PickleNode*> given;
    for (size_t i = 0; planner && planner->is(Kind::dict) && i + 1 < planner->items.size(); i += 2)
      if (planner->items[i]->is(Kind::text)) given[planner->items[i]->text] = planner->items[i + 1];
    std::vector<std::vector<std::string>> paths;
    for (size_t i = 0; i + 1 < tensors.items.size(); i += 2) {
      const PickleNode &key = *tensors.items[i], &value = *tensors.items[i + 1];
      if (!key.is(Kind::text)) fail("state_dict_metadata", "has " + describe(key) + " for a key");
      std::vector<std::string> path;
      if (is_a(value, "TensorStorageMetadata")) {
        if (const auto found = given.find(key.text); found != given.end()) path = path_of(*found->second);
        if (path.empty()) path = {std::string(key.text)};
      }
      paths.push_back(std::move(path));
    }
    return part_ == SourcePart::model ? model_names(std::move(paths)) : optimizer_names(paths);
  }

  std::vector<std::string> path_of(const PickleNode& node) const {
    std::vector<std::string> path;
    if (!node.is_sequence()) fail("planner_data", "has " + describe(node) + ", want a path");
    for (const PickleNode* part : node.items) {
      if (!part->is(Kind::text) && !part->is(Kind::integer))
        fail("planner_data", "has " + describe(*part) + " in a path");
      path.push_back(part->is(Kind::text) ? std::string(part->text) : std::to_string(part->integer));
    }
    return path;
  }

  void add(const std::string& name, const std::string& key, const PickleNode& node) {
    SourceTensor tensor{.name = name, .shape = sizes(node, "size")};
    const PickleNode* properties = entry(node, "properties", Kind::call);
    const PickleNode* state = properties->state;
    const PickleNode* dtype = !state                                            ? nullptr
                              : state->is(Kind::dict)                           ? state->find("dtype")
                              : state->is(Kind::tuple) && !state->items.empty() ? state->items[0]
                                                                                : nullptr;
    const auto known = dtype ? pickled_dtype(*dtype) : std::nullopt;
    if (!known) fail(key, "has dtype " + (dtype ? describe(*dtype) : std::string("None")) + ", which is not read");
    tensor.dtype = *known;
    for (const PickleNode* chunk : entry(node, "chunks", Kind::list)->items) {
      if (!is_a(*chunk, "ChunkStorageMetadata")) fail(key, "has a chunk that is " + describe(*chunk));
      add_chunk(tensor, key, sizes(*chunk, "offsets"), sizes(*chunk, "sizes"));
    }
    if (part_ == SourcePart::optimizer && name.ends_with(".step") && tensor.pieces.size() == 1 && tensor.shape.empty())
      return builder_.add_steps(key, builder_.number(tensor.pieces[0].file, tensor.dtype, tensor.pieces[0].offset));
    builder_.add(std::move(tensor));
  }

  void add_chunk(SourceTensor& tensor, const std::string& key, std::vector<int64_t> begin, std::vector<int64_t> count) {
    if (std::find(count.begin(), count.end(), 0) != count.end()) return;
    const auto found = stored_.find(place(key, begin));
    if (found == stored_.end()) fail(key, "lists a piece that is stored nowhere");
    const Stored& stored = found->second;
    const size_t file = builder_.open(stored.file);
    const TorchFile archive(builder_.file(file), stored.offset, stored.length);
    const std::optional<TorchTensor> piece = archive.tensor(archive.root());
    if (!piece || piece->shape != count || piece->dtype != tensor.dtype)
      fail(key, "holds another piece in '" + stored.file + "' than its metadata says");
    tensor.pieces.push_back({std::move(begin), std::move(count), piece->stride, file, piece->offset});
  }

  [[noreturn]] void fail(const std::string& key, const std::string& message) const {
    throw Error(ErrorKind::format, message).at((path_ / kMetadata).string()).key(key);
  }

  fs::path path_;
  SourcePart part_;
  Pickle metadata_;
  TensorSourceBuilder builder_;
  std::map<std::string, Stored> stored_;
};

}  // namespace

bool is_dcp(const fs::path& path) { return fs::is_regular_file(path / kMetadata); }

TensorSource open_dcp(const fs::path& path, SourcePart part) { return DcpReader(path, part).read(); }

}  // namespace ft
