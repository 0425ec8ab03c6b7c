#include "engine/formats/torch_file.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "engine/error/error.h"

namespace ft {
namespace {

using Kind = PickleNode::Kind;

std::optional<DType> storage_dtype(std::string_view name) {
  constexpr std::pair<std::string_view, DType> kNames[] = {
      {"torch.FloatStorage", DType::f32},         {"torch.HalfStorage", DType::f16},
      {"torch.BFloat16Storage", DType::bf16},     {"torch.DoubleStorage", DType::f64},
      {"torch.ByteStorage", DType::u8},           {"torch.CharStorage", DType::i8},
      {"torch.ShortStorage", DType::i16},         {"torch.IntStorage", DType::i32},
      {"torch.LongStorage", DType::i64},          {"torch.BoolStorage", DType::boolean},
      {"torch.storage.UntypedStorage", DType::u8}};
  for (const auto& [known, dtype] : kNames)
    if (known == name) return dtype;
  return std::nullopt;
}

// The byte after the last element's first, or nothing where 64 bits cannot count it.
std::optional<uint64_t> last_element(const std::vector<int64_t>& shape, const std::vector<int64_t>& stride) {
  uint64_t last = 0, numel = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    uint64_t reach = 0;
    if (__builtin_mul_overflow(numel, static_cast<uint64_t>(shape[i]), &numel)) return std::nullopt;
    if (shape[i] == 0) continue;
    if (__builtin_mul_overflow(static_cast<uint64_t>(shape[i] - 1), static_cast<uint64_t>(stride[i]), &reach) ||
        __builtin_add_overflow(last, reach, &last))
      return std::nullopt;
  }
  constexpr uint64_t kMost = uint64_t{1} << 56;  // so that bytes can be counted, too
  if (last >= kMost || numel >= kMost) return std::nullopt;
  return last;
}

std::vector<char> read_member(const InputFile& file, const ZipMember& member, const std::string& name) {
  if (const PickleLimits limits; member.size > limits.bytes)
    throw Error(ErrorKind::format,
                "has " + std::to_string(member.size) + " bytes, want at most " + std::to_string(limits.bytes))
        .at(name)
        .key(member.name);
  std::vector<char> bytes(member.size);
  file.read(member.offset, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

// The next of the pickles that follow one another, however long it is; `at` moves past it.
Pickle next_pickle(const InputFile& file, uint64_t& at, uint64_t end, const std::string& name) {
  PickleLimits limits;
  limits.allow_persistent = true;
  constexpr uint64_t kFirst = 1 << 16;
  for (uint64_t bytes = kFirst;; bytes *= 16) {
    const uint64_t taken = std::min({bytes, end - at, uint64_t{limits.bytes}});
    std::vector<char> window(taken);
    file.read(at, std::as_writable_bytes(std::span(window)));
    try {
      Pickle pickle(std::move(window), name, limits);
      at += pickle.size();
      return pickle;
    } catch (const Error&) {
      if (taken < bytes) throw;  // there is no more: it was not the window that ended too soon
    }
  }
}

}  // namespace

int64_t TorchTensor::numel() const {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  return n;
}

bool TorchTensor::is_contiguous() const {
  int64_t want = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && stride[i] != want) return numel() == 0;
    want *= shape[i];
  }
  return true;
}

std::optional<std::vector<int64_t>> pickled_sizes(const PickleNode& node) {
  const PickleNode* list = &node;
  if (node.is_call("torch.Size")) {
    if (node.items.size() != 1) return std::nullopt;
    list = node.items[0];
  }
  if (!list->is_sequence()) return std::nullopt;
  std::vector<int64_t> result;
  for (const PickleNode* item : list->items) {
    if (!item->is(Kind::integer) || item->integer < 0) return std::nullopt;
    result.push_back(item->integer);
  }
  return result;
}

std::optional<DType> pickled_dtype(const PickleNode& node) {
  constexpr std::string_view kPrefix = "torch.";
  if (!node.is(Kind::global) || !node.text.starts_with(kPrefix)) return std::nullopt;
  return dtype_from_name(node.text);
}

TorchFile::TorchFile(const InputFile& file, uint64_t begin, uint64_t size) : name_(file.path().string()) {
  if (looks_like_zip(file, begin))
    open_archive(file, begin, size);
  else
    open_old(file, begin, size);
}

// A magic number, a version, a dict on the system, the data, the storages' keys; then, key by key, eight bytes of count
// and the elements.
void TorchFile::open_old(const InputFile& file, uint64_t begin, uint64_t size) {
  constexpr std::string_view kMagic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);
  const uint64_t end = begin + size;
  uint64_t at = begin;
  char head[14] = {};
  if (size >= sizeof head && begin <= file.size() && size <= file.size() - begin)
    file.read(begin, std::as_writable_bytes(std::span(head)));
  if (std::string_view(head + 4, kMagic.size()) != kMagic)
    throw Error(ErrorKind::format, "is nothing that torch.save wrote, at byte " + std::to_string(begin)).at(name_);
  next_pickle(file, at, end, name_);
  const Pickle version = next_pickle(file, at, end, name_);
  if (!version.root().is(Kind::integer) || version.root().integer != 1001)
    fail("is of protocol " + describe(version.root()) + ", want 1001");
  const Pickle system = next_pickle(file, at, end, name_);
  const PickleNode* little = system.root().find("little_endian");
  if (!little || !little->truth) fail("is big-endian");
  pickle_.emplace(next_pickle(file, at, end, name_));
  std::unordered_map<std::string_view, size_t> widths;
  for (const PickleNode* node : pickle_->persistent()) {
    const PickleNode& id = *node->items[0];
    if (!id.is(Kind::tuple) || id.items.size() < 3 || !id.items[1]->is(Kind::global) || !id.items[2]->is(Kind::text))
      fail("names a storage by " + describe(id));
    if (id.items.size() > 5 && !id.items[5]->is(Kind::none)) fail("has a view of a storage, which is not read");
    if (const auto dtype = storage_dtype(id.items[1]->text)) widths[id.items[2]->text] = byte_size(*dtype);
  }
  const Pickle keys = next_pickle(file, at, end, name_);
  for (const PickleNode* key : keys.root().items) {
    const auto width = key->is(Kind::text) ? widths.find(key->text) : widths.end();
    if (width == widths.end()) fail("lists storage " + describe(*key) + ", which no tensor has");
    uint64_t count = 0, bytes = 0;
    if (end - at < sizeof count) fail("ends before its storages: it is truncated");
    file.read(at, std::as_writable_bytes(std::span(&count, 1)));
    at += sizeof count;
    if (__builtin_mul_overflow(count, uint64_t{width->second}, &bytes) || bytes > end - at)
      fail("has a storage of " + std::to_string(count) + " elements past its end: it is truncated");
    members_["data/" + std::string(key->text)] = {"", at, bytes};
    at += bytes;
  }
}

void TorchFile::open_archive(const InputFile& file, uint64_t begin, uint64_t size) {
  for (ZipMember& member : read_zip(file, begin, size)) {
    const size_t slash = member.name.find('/');
    std::string inner = slash == std::string::npos ? member.name : member.name.substr(slash + 1);
    members_.emplace(std::move(inner), std::move(member));
  }
  if (const auto order = members_.find("byteorder"); order != members_.end()) {
    const std::vector<char> text = read_member(file, order->second, name_);
    if (std::string_view(text.data(), text.size()) != "little")
      fail("has byte order '" + std::string(text.data(), std::min<size_t>(text.size(), 20)) + "', want 'little'");
  }
  const auto data = members_.find("data.pkl");
  if (data == members_.end()) fail("holds no data.pkl: it is no archive of torch.save");
  PickleLimits limits;
  limits.allow_persistent = true;
  pickle_.emplace(read_member(file, data->second, name_), name_ + " (" + data->second.name + ")", limits);
}

std::optional<TorchTensor> TorchFile::tensor(const PickleNode& node) const {
  constexpr std::string_view kRebuild = "torch._utils._rebuild_tensor";
  const PickleNode* inner = &node;
  if (node.is_call("torch._utils._rebuild_parameter") || node.is_call("torch._utils._rebuild_parameter_with_state")) {
    if (node.items.empty()) fail("rebuilds a parameter of nothing");
    inner = node.items[0];
  }
  // A tensor with attributes: the function, the type, the function's arguments, the attributes.
  if (inner->is_call("torch._tensor._rebuild_from_type_v2")) {
    const auto& items = inner->items;
    if (items.size() < 3 || !items[0]->is(Kind::global) || !items[0]->text.starts_with(kRebuild) ||
        !items[2]->is(Kind::tuple))
      fail("rebuilds a tensor by " + (items.empty() ? std::string("nothing") : describe(*items[0])));
    return rebuild(items[0]->text, items[2]->items);
  }
  if (inner->is(Kind::call) && inner->text.starts_with(kRebuild)) return rebuild(inner->text, inner->items);
  if (inner != &node) fail("rebuilds a parameter of " + describe(*inner));
  return std::nullopt;
}

TorchTensor TorchFile::rebuild(std::string_view function, const std::vector<const PickleNode*>& arguments) const {
  const bool typed = function == "torch._utils._rebuild_tensor_v3";
  if (arguments.size() < (typed ? 7u : 4u))
    fail("rebuilds a tensor of " + std::to_string(arguments.size()) + " arguments");
  const auto shape = pickled_sizes(*arguments[2]), stride = pickled_sizes(*arguments[3]);
  if (!shape || !stride || shape->size() != stride->size() || shape->size() > 64)
    fail("rebuilds a tensor of size " + describe(*arguments[2]) + " and stride " + describe(*arguments[3]));
  const std::optional<DType> dtype = typed ? pickled_dtype(*arguments[6]) : std::nullopt;
  if (typed && !dtype) fail("rebuilds a tensor of dtype " + describe(*arguments[6]));
  const Storage from = storage(*arguments[0], dtype);
  if (!arguments[1]->is(Kind::integer) || arguments[1]->integer < 0)
    fail("rebuilds a tensor at offset " + describe(*arguments[1]));
  TorchTensor result{from.dtype, *shape, *stride, 0};
  const auto first = static_cast<uint64_t>(arguments[1]->integer);
  const std::optional<uint64_t> last = last_element(*shape, *stride);
  if (!last) fail("rebuilds a tensor of more elements than 64 bits count");
  if (result.numel() > 0 && (first >= from.numel || *last >= from.numel - first))
    fail("rebuilds a tensor that reaches element " + std::to_string(first) + " + " + std::to_string(*last) +
         " of a storage of " + std::to_string(from.numel));
  result.offset = from.offset + (result.numel() > 0 ? first * byte_size(result.dtype) : 0);
  return result;
}

TorchFile::Storage TorchFile::storage(const PickleNode& node, std::optional<DType> dtype) const {
  if (!node.is(Kind::persistent)) fail("rebuilds a tensor of " + describe(node) + ", want a storage");
  const PickleNode& id = *node.items[0];
  if (!id.is(Kind::tuple) || id.items.size() < 5 || !id.items[0]->is(Kind::text) || id.items[0]->text != "storage" ||
      !id.items[1]->is(Kind::global) || !id.items[2]->is(Kind::text) || !id.items[4]->is(Kind::integer))
    fail("names a storage by " + describe(id));
  const std::optional<DType> stored = storage_dtype(id.items[1]->text);
  if (!stored) fail("has a storage of type " + describe(*id.items[1]));
  const std::string key = "data/" + std::string(id.items[2]->text);
  const auto member = members_.find(key);
  if (member == members_.end()) fail("lacks the storage " + key);
  // Counted by what is there, not by what the pickle says: an untyped storage counts bytes.
  const DType type = dtype.value_or(*stored);
  const uint64_t numel = member->second.size / byte_size(type), said = static_cast<uint64_t>(id.items[4]->integer);
  if (id.items[4]->integer < 0 || said > member->second.size || said * byte_size(*stored) > member->second.size)
    fail("has a storage " + key + " of " + std::to_string(member->second.size) + " bytes, want " +
         std::to_string(id.items[4]->integer) + " elements of " + to_string(*stored) + ": it is truncated");
  return {type, member->second.offset, numel};
}

void TorchFile::fail(const std::string& message) const { throw Error(ErrorKind::format, message).at(name_); }

}  // namespace ft
