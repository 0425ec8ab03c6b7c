#include "engine/formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/schema/value.h"

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

namespace ft {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // safetensors/src/tensor.rs, MAX_HEADER_SIZE
constexpr uint64_t kLengthBytes = 8;

// Bits of one element of the dtypes that are in the format but of no use to the engine (safetensors/src/tensor.rs).
std::optional<uint64_t> unusable_bits(std::string_view dtype) {
  constexpr std::pair<std::string_view, uint64_t> kBits[] = {
      {"F4", 4},          {"F6_E2M3", 6},     {"F6_E3M2", 6}, {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},
      {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"U16", 16},    {"U32", 32},    {"U64", 64},    {"C64", 64}};
  for (const auto& [name, bits] : kBits)
    if (name == dtype) return bits;
  return std::nullopt;
}

// Checks one file's header; every message names the file and the tensor.
class HeaderReader {
 public:
  HeaderReader(const std::string& file, uint64_t buffer_bytes) : file_(file), buffer_bytes_(buffer_bytes) {}

  SafetensorsMetadata metadata(const Value& value) const {
    SafetensorsMetadata result;
    if (!value.is_map()) fail("__metadata__", "got " + std::string(to_string(value.kind())) + ", want a map");
    for (const auto& [key, text] : value.as_map()) {
      if (!text.is_string()) fail("__metadata__." + key, "got " + describe(text) + ", want a string");
      result.emplace_back(key, text.as_string());
    }
    return result;
  }

  // The entry, and its dtype as the header spells it.
  std::pair<TensorEntry, std::string> entry(const std::string& name, const Value& value) const {
    TensorEntry entry{.name = name};
    const Value *dtype = value.find("dtype"), *shape = value.find("shape"), *offsets = value.find("data_offsets");
    if (!dtype || !dtype->is_string()) fail(name, "has no dtype");
    if (!shape || !shape->is_list()) fail(name, "has no shape");
    if (!offsets || !offsets->is_list() || offsets->as_list().size() != 2)
      fail(name, "has no data_offsets [begin, end]");
    const std::string& spelled = dtype->as_string();
    const std::optional<DType> usable = dtype_from_safetensors(spelled);
    const std::optional<uint64_t> bits = usable ? 8 * byte_size(*usable) : unusable_bits(spelled);
    if (!bits) fail(name, "got dtype '" + spelled + "', which safetensors does not have");
    entry.dtype = usable.value_or(DType::u8);
    for (const Value& dim : shape->as_list()) entry.shape.push_back(static_cast<int64_t>(whole(name, dim, "shape")));
    entry.begin = whole(name, offsets->as_list()[0], "data_offsets");
    entry.end = whole(name, offsets->as_list()[1], "data_offsets");
    check_extent(entry, *bits, spelled);
    return {std::move(entry), spelled};
  }

  // No holes, no overlap, the whole buffer covered.
  void check_cover(const std::vector<const TensorEntry*>& by_begin) const {
    uint64_t at = 0;
    const TensorEntry* before = nullptr;
    for (const TensorEntry* entry : by_begin) {
      if (entry->begin < at)
        fail(entry->name, "begins at byte " + std::to_string(entry->begin) + " and overlaps '" + before->name +
                              "', which ends at byte " + std::to_string(at));
      if (entry->begin > at)
        fail(entry->name, "begins at byte " + std::to_string(entry->begin) + ", want " + std::to_string(at) +
                              ": there is a hole before it");
      at = entry->end;
      before = entry;
    }
    if (at != buffer_bytes_)
      fail("", "holds " + std::to_string(buffer_bytes_) + " bytes after its header, want " + std::to_string(at) +
                   (buffer_bytes_ < at ? ": it is truncated" : ""));
  }

 private:
  uint64_t whole(const std::string& name, const Value& value, const char* what) const {
    if (!value.is_integer() || value.as_integer() < 0)
      fail(name, std::string("got ") + describe(value) + " in " + what + ", want a number from 0 on");
    return static_cast<uint64_t>(value.as_integer());
  }

  void check_extent(const TensorEntry& entry, uint64_t bits, const std::string& dtype) const {
    uint64_t want = bits;
    for (const int64_t dim : entry.shape)
      if (__builtin_mul_overflow(want, static_cast<uint64_t>(dim), &want))
        fail(entry.name, "has shape " + shape_text(entry.shape) + ", more than 64 bits can count");
    if (entry.end < entry.begin || want % 8 != 0 || entry.end - entry.begin != want / 8)
      fail(entry.name, "got bytes [" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "], want " +
                           std::to_string(want / 8) + " bytes for shape " + shape_text(entry.shape) + " " + dtype);
    if (entry.end > buffer_bytes_)
      fail(entry.name, "ends at byte " + std::to_string(entry.end) + ", but the file holds " +
                           std::to_string(buffer_bytes_) + " after its header: it is truncated");
  }

  [[noreturn]] void fail(const std::string& name, const std::string& message) const {
    throw Error(ErrorKind::format, message).at(file_).key(name);
  }

  const std::string& file_;
  uint64_t buffer_bytes_;
};

// The header's text; sets where the tensors' bytes begin.
std::string read_header(const InputFile& file, uint64_t& data_begin) {
  const auto fail = [&](const std::string& message) {
    throw Error(ErrorKind::format, message).at(file.path().string()).help("is it a safetensors file, and whole?");
  };
  if (file.size() < kLengthBytes) fail("holds " + std::to_string(file.size()) + " bytes, too few for safetensors");
  uint64_t length = 0;
  file.read(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > kMaxHeader)
    fail("has a header of " + std::to_string(length) + " bytes, want at most " + std::to_string(kMaxHeader));
  if (length > file.size() - kLengthBytes)
    fail("has a header of " + std::to_string(length) + " bytes, but holds " +
         std::to_string(file.size() - kLengthBytes) + ": it is truncated");
  std::string header(length, '\0');
  file.read(kLengthBytes, std::as_writable_bytes(std::span(header)));
  if (header.empty() || header[0] != '{') fail("has a header that does not begin with '{'");
  data_begin = kLengthBytes + length;
  return header;
}

std::string header_text(const std::vector<TensorEntry>& entries, const SafetensorsMetadata& metadata) {
  Value header = Value::map();
  Value::Map& map = header.as_map();
  if (!metadata.empty()) {
    Value texts = Value::map();
    for (const auto& [key, text] : metadata) texts.set(key, text);
    map.emplace_back("__metadata__", std::move(texts));
  }
  for (const TensorEntry& entry : entries)
    map.emplace_back(entry.name, Value::map({{"dtype", safetensors_name(entry.dtype)},
                                             {"shape", Value(Value::List(entry.shape.begin(), entry.shape.end()))},
                                             {"data_offsets", Value::list({static_cast<int64_t>(entry.begin),
                                                                           static_cast<int64_t>(entry.end)})}}));
  std::string text = write_json(header);
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace

int64_t TensorEntry::numel() const {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  return n;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const std::string name = path.string();
  const std::string text = read_header(file_, data_begin_);
  const Value header = parse_json(text, name, {.refuse_duplicates = true, .origins = false});
  const HeaderReader reader(name, file_.size() - data_begin_);
  std::vector<std::pair<TensorEntry, std::string>> all;
  for (const auto& [key, value] : header.as_map()) {
    if (key == "__metadata__")
      metadata_ = reader.metadata(value);
    else
      all.push_back(reader.entry(key, value));
  }
  std::vector<const TensorEntry*> by_begin;
  by_begin.reserve(all.size());
  for (const auto& [entry, dtype] : all) by_begin.push_back(&entry);
  // Empty tensors come before the one that begins at the same byte.
  std::stable_sort(by_begin.begin(), by_begin.end(), [](const TensorEntry* a, const TensorEntry* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  reader.check_cover(by_begin);
  for (const auto& [entry, dtype] : all)
    if (!dtype_from_safetensors(dtype)) unusable_[entry.name] = dtype;
  for (const TensorEntry* entry : by_begin) {
    if (unusable_.contains(entry->name)) continue;
    index_[entry->name] = entries_.size();
    entries_.push_back(*entry);
  }
}

const TensorEntry* SafetensorsFile::find(const std::string& name) const {
  if (const auto found = index_.find(name); found != index_.end()) return &entries_[found->second];
  if (const auto found = unusable_.find(name); found != unusable_.end())
    throw Error(ErrorKind::format,
                "got dtype " + found->second + ", want one of F32, F16, BF16, F64 or an integer type")
        .at(path().string())
        .key(name);
  return nullptr;
}

void SafetensorsFile::read(const TensorEntry& entry, uint64_t byte_offset, std::span<std::byte> out) const {
  FT_CHECK(byte_offset <= entry.bytes() && out.size() <= entry.bytes() - byte_offset,
           "read past the end of '" + entry.name + "'");
  file_.read(data_begin_ + entry.begin + byte_offset, out);
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorEntry> entries,
                                     const SafetensorsMetadata& metadata)
    : file_(path), entries_(std::move(entries)) {
  for (TensorEntry& entry : entries_) {
    entry.begin = data_bytes_;
    data_bytes_ += static_cast<uint64_t>(entry.numel()) * byte_size(entry.dtype);
    entry.end = data_bytes_;
  }
  const std::string text = header_text(entries_, metadata);
  if (text.size() > kMaxHeader)
    throw Error(ErrorKind::format, "would need a header of " + std::to_string(text.size()) + " bytes, want at most " +
                                       std::to_string(kMaxHeader))
        .at(path.string());
  const uint64_t length = text.size();
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(text);
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  FT_CHECK(bytes.size() <= data_bytes_ - written_, "more bytes than the table of tensors has");
  file_.write(bytes);
  written_ += bytes.size();
}

void SafetensorsWriter::finish() {
  FT_CHECK(written_ == data_bytes_,
           "got " + std::to_string(written_) + " bytes, the table of tensors has " + std::to_string(data_bytes_));
  file_.commit();
}

void sort_entries(std::vector<TensorEntry>& entries) {
  std::stable_sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    const size_t width_a = byte_size(a.dtype), width_b = byte_size(b.dtype);
    return width_a != width_b ? width_a > width_b : a.name < b.name;
  });
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace ft
