#include "engine/formats/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstdio>

#include "engine/error/error.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifest = "manifest.json";
constexpr const char* kFormat = "ftengine-checkpoint";

std::string hex(uint64_t value) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016" PRIx64, value);
  return digits;
}

// A piece's name in its shard: what safetensors tools show. Unique, since a rank owns a range once.
std::string entry_name(const Piece& piece) { return piece.kind + ":" + piece.name + "@" + std::to_string(piece.begin); }

Value to_value(const Piece& piece) {
  Value value = Value::map({{"name", piece.name},
                            {"kind", piece.kind},
                            {"dtype", to_string(piece.dtype)},
                            {"shape", Value(Value::List(piece.shape.begin(), piece.shape.end()))},
                            {"begin", piece.begin},
                            {"count", piece.count}});
  if (!piece.columns.whole()) value.set("columns", Value::list({piece.columns.begin, piece.columns.count}));
  return value;
}

ColumnSlice columns_from(const Value& value, const std::vector<int64_t>& shape) {
  const Value* columns = value.find("columns");
  if (!columns) return {};
  const bool pair = columns->is_list() && columns->as_list().size() == 2 && shape.size() == 2;
  const ColumnSlice slice =
      pair ? ColumnSlice{columns->as_list()[0].as_integer(), columns->as_list()[1].as_integer()} : ColumnSlice{};
  if (slice.count < 1 || slice.begin < 0 || slice.begin > shape[1] || slice.count > shape[1] - slice.begin)
    throw Error(ErrorKind::format, "got columns " + describe(*columns) + " of shape " + shape_text(shape))
        .key(value.at("name").as_string());
  return slice;
}

Piece piece_from(const Value& value) {
  Piece piece;
  piece.name = value.at("name").as_string();
  piece.kind = value.at("kind").as_string();
  const std::optional<DType> dtype = dtype_from_name(value.at("dtype").as_string());
  if (!dtype) throw Error(ErrorKind::format, "got dtype " + describe(value.at("dtype"))).key(piece.name);
  piece.dtype = *dtype;
  int64_t numel = 1;
  for (const Value& dim : value.at("shape").as_list()) {
    piece.shape.push_back(dim.as_integer());
    if (piece.shape.back() < 0 || __builtin_mul_overflow(numel, piece.shape.back(), &numel))
      throw Error(ErrorKind::format, "got shape " + describe(value.at("shape"))).key(piece.name);
  }
  piece.begin = value.at("begin").as_integer();
  piece.count = value.at("count").as_integer();
  piece.columns = columns_from(value, piece.shape);
  if (!piece.columns.whole()) numel = piece.shape[0] * piece.columns.count;
  if (piece.begin < 0 || piece.count < 0 || piece.begin > numel || piece.count > numel - piece.begin)
    throw Error(ErrorKind::format, "got elements [" + std::to_string(piece.begin) + ", + " +
                                       std::to_string(piece.count) + ") of shape " + shape_text(piece.shape))
        .key(piece.name);
  return piece;
}

uint64_t checksum_from(const Value& value) {
  const std::string& text = value.as_string();
  uint64_t result = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result, 16);
  if (error != std::errc() || end != text.data() + text.size())
    throw Error(ErrorKind::format, "got checksum " + describe(value) + ", want 16 hex digits").at(value.origin.str());
  return result;
}

}  // namespace

Value ShardRecord::to_value() const {
  Value list = Value::list();
  for (const Piece& piece : pieces) list.as_list().push_back(ft::to_value(piece));
  return Value::map(
      {{"file", file}, {"bytes", static_cast<int64_t>(bytes)}, {"xxh3", hex(checksum)}, {"pieces", std::move(list)}});
}

ShardRecord ShardRecord::from_value(const Value& value) try {
  ShardRecord record;
  record.file = value.at("file").as_string();
  if (record.file.empty() || fs::path(record.file) != fs::path(record.file).filename() || record.file == "..")
    throw Error(ErrorKind::format, "got file '" + record.file + "', want a name in the checkpoint's directory");
  record.bytes = static_cast<uint64_t>(value.at("bytes").as_integer());
  record.checksum = checksum_from(value.at("xxh3"));
  for (const Value& piece : value.at("pieces").as_list()) record.pieces.push_back(piece_from(piece));
  return record;
} catch (const Error& error) {
  throw Error(ErrorKind::format, error.message())
      .at(error.where().empty() ? value.origin.str() : error.where())
      .key(error.path());
}

CheckpointShardWriter::CheckpointShardWriter(const fs::path& directory, int rank, int world,
                                             std::vector<Piece> pieces) {
  char name[48];
  std::snprintf(name, sizeof name, "shard-%05d-of-%05d.safetensors", rank, world);
  record_.file = name;
  std::erase_if(pieces, [](const Piece& piece) { return piece.count == 0; });
  record_.pieces = std::move(pieces);
  std::vector<TensorEntry> entries;
  for (const Piece& piece : record_.pieces)
    entries.push_back({.name = entry_name(piece), .dtype = piece.dtype, .shape = {piece.count}});
  writer_ = std::make_unique<SafetensorsWriter>(directory / name, std::move(entries));
}

ShardRecord CheckpointShardWriter::finish() {
  writer_->finish();
  record_.bytes = writer_->file_bytes();
  record_.checksum = writer_->checksum();
  return record_;
}

bool prepare_checkpoint(const fs::path& directory) {
  std::error_code error;
  if (fs::exists(directory / kManifest)) {
    try {
      Checkpoint whole(directory);
      return false;
    } catch (const Error&) {  // broken: written anew
    }
  }
  fs::remove(directory / kManifest, error);
  if (fs::is_directory(directory))
    for (const fs::directory_entry& entry : fs::directory_iterator(directory))
      if (entry.path().filename().string().starts_with("shard-") ||
          entry.path().filename().string().starts_with(kManifest))
        fs::remove(entry.path(), error);
  fs::create_directories(directory, error);
  if (error) throw Error(ErrorKind::io, "cannot create: " + error.message()).at(directory.string());
  return true;
}

void write_manifest(const fs::path& directory, const Value& header, const std::vector<ShardRecord>& shards) {
  FT_CHECK(header.find("step") != nullptr, "a checkpoint's header has a step");
  Value list = Value::list();
  int64_t version = 1;
  for (const ShardRecord& shard : shards) {
    list.as_list().push_back(shard.to_value());
    for (const Piece& piece : shard.pieces)
      if (!piece.columns.whole()) version = kCheckpointVersion;
  }
  const Value manifest =
      Value::map({{"format", kFormat}, {"format_version", version}, {"header", header}, {"shards", std::move(list)}});
  write_text(directory / kManifest, write_json(manifest) + "\n");
}

struct Checkpoint::Shard {
  ShardRecord record;
  SafetensorsFile file;
};

struct Checkpoint::Range {
  int64_t begin, count;
  const SafetensorsFile* file;
  const TensorEntry* entry;
  ColumnSlice columns;
};

/// Where an element lies, and how many that follow it in the tensor follow it there too.
struct Checkpoint::Found {
  const Range* range;  // null: nowhere
  int64_t at, count;   // elements of the piece
};

Checkpoint::~Checkpoint() = default;

Checkpoint::Checkpoint(const fs::path& directory) : SavedState(directory) {
  const fs::path manifest = path_ / kManifest;
  if (!fs::exists(manifest))
    throw Error(ErrorKind::format,
                std::string("holds no ") + kManifest + ": it is no checkpoint, or its writing was cut short")
        .at(path_.string());
  const Value value = read_json(manifest);
  const auto fail = [&](const std::string& message) -> void {
    throw Error(ErrorKind::format, message).at(manifest.string());
  };
  const Value *format = value.find("format"), *version = value.find("format_version");
  if (!format || *format != Value(kFormat) || !version || !version->is_integer())
    fail("is no manifest of a checkpoint");
  if (version->as_integer() > kCheckpointVersion)
    throw Error(ErrorKind::format, "has checkpoint format " + std::to_string(version->as_integer()) +
                                       ", this ftengine reads up to " + std::to_string(kCheckpointVersion))
        .at(manifest.string())
        .help("use the ftengine that wrote it, or a newer one");
  const Value *header = value.find("header"), *shards = value.find("shards");
  if (!header || !header->find("step") || !header->at("step").is_integer() || !shards || !shards->is_list())
    fail("lacks a header with a step, or a list of shards");
  header_ = *header;
  for (const Value& shard : shards->as_list()) add_shard(shard);
  for (std::vector<Range>& ranges : ranges_)
    std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
}

void Checkpoint::add_shard(const Value& value) {
  ShardRecord record = ShardRecord::from_value(value);
  const fs::path file = path_ / record.file;
  if (!fs::exists(file)) throw Error(ErrorKind::format, "lacks " + record.file).at(path_.string());
  if (const uint64_t got = fs::file_size(file); got != record.bytes)
    throw Error(ErrorKind::format,
                "holds " + std::to_string(got) + " bytes, its manifest says " + std::to_string(record.bytes))
        .at(file.string());
  shards_.push_back(std::make_unique<Shard>(Shard{std::move(record), SafetensorsFile(file)}));
  for (const Piece& piece : shards_.back()->record.pieces) add_piece(piece, *shards_.back());
}

void Checkpoint::add_piece(const Piece& piece, const Shard& shard) {
  const TensorEntry* entry = shard.file.find(entry_name(piece));
  if (!entry || entry->dtype != piece.dtype || entry->numel() != piece.count)
    throw Error(ErrorKind::format, "does not hold the piece of which its manifest tells (" +
                                       std::to_string(piece.count) + " elements from " + std::to_string(piece.begin) +
                                       ", " + to_string(piece.dtype) + ")")
        .at(shard.file.path().string())
        .key(piece.name);
  const auto [number, is_new] = add({piece.name, piece.kind, piece.dtype, piece.shape});
  if (is_new) ranges_.emplace_back();
  const Tensor& tensor = tensors_[number];
  if (tensor.dtype != piece.dtype || tensor.shape != piece.shape)
    throw Error(ErrorKind::format, "got shape " + shape_text(piece.shape) + " " + to_string(piece.dtype) +
                                       ", another piece has " + shape_text(tensor.shape) + " " +
                                       to_string(tensor.dtype))
        .at(shard.file.path().string())
        .key(piece.name);
  ranges_[number].push_back({piece.begin, piece.count, &shard.file, entry, piece.columns});
}

Checkpoint::Found Checkpoint::locate(size_t tensor, int64_t at) const {
  const std::vector<int64_t>& shape = tensors_[tensor].shape;
  for (const Range& range : ranges_[tensor]) {
    int64_t local = at, together = range.begin + range.count;
    if (!range.columns.whole()) {
      const int64_t row = at / shape[1], column = at % shape[1] - range.columns.begin;
      if (column < 0 || column >= range.columns.count) continue;
      local = row * range.columns.count + column;
      together = std::min(together, (row + 1) * range.columns.count);
    }
    if (local >= range.begin && local < range.begin + range.count)
      return {&range, local - range.begin, together - local};
  }
  return {nullptr, 0, 0};
}

void Checkpoint::read(const std::string& name, const std::string& kind, int64_t begin, int64_t count, void* out) const {
  const size_t number = number_of(name, kind);
  const Tensor& tensor = tensors_[number];
  FT_CHECK(begin >= 0 && count >= 0 && count <= tensor.numel() - begin, "read past the end of '" + name + "'");
  const auto width = static_cast<int64_t>(byte_size(tensor.dtype));
  auto* bytes = static_cast<std::byte*>(out);
  const int64_t end = begin + count;
  int64_t at = begin;
  while (at < end) {
    const Found piece = locate(number, at);
    if (!piece.range) break;
    const int64_t run = std::min(piece.count, end - at);
    piece.range->file->read(*piece.range->entry, static_cast<uint64_t>(piece.at * width),
                            {bytes + (at - begin) * width, static_cast<size_t>(run * width)});
    at += run;
  }
  if (at != end)
    throw Error(ErrorKind::format,
                "no shard holds element " + std::to_string(at) + " of '" + kind + "' " + shape_text(tensor.shape))
        .at(path_.string())
        .key(name);
}

void Checkpoint::verify() const {
  for (const auto& shard : shards_)
    if (const uint64_t got = file_checksum(shard->file.path()); got != shard->record.checksum)
      throw Error(ErrorKind::format, "has checksum " + hex(got) + ", its manifest says " + hex(shard->record.checksum))
          .at(shard->file.path().string())
          .help("the shard changed after it was written; take another checkpoint");
}

}  // namespace ft
