#include "engine/train/weight_cache.h"

#include <ATen/ops/from_blob.h>

#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "engine/device/figures.h"
#include "engine/device/log.h"
#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/file_map.h"
#include "engine/formats/hex_digits.h"
#include "engine/formats/json.h"
#include "engine/formats/locked_file.h"
#include "engine/formats/model_directory.h"
#include "engine/parallel/scalar_type.h"
#include "engine/train/interrupt.h"
#include "engine/train/source_files.h"
#include "engine/train/weights.h"

namespace ft {
namespace {

constexpr int64_t kFormat = 1;  // of the file, and of what quantization makes
constexpr uint64_t kPage = 4096;
constexpr std::array<char, 8> kMagic = {'F', 'T', 'W', 'C', 'A', 'C', 'H', 'E'};

// The last bytes of the file.
struct Trailer {
  uint64_t index_begin = 0, index_bytes = 0, index_checksum = 0;
  std::array<char, 8> magic = kMagic;
};

std::string with_trailer(const Value& index, uint64_t begin) {
  std::string text = write_json(index);
  const Trailer trailer{begin, text.size(), checksum(std::as_bytes(std::span(text)))};
  text.append(reinterpret_cast<const char*>(&trailer), sizeof trailer);
  return text;
}

uint64_t on_page(uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

Value described(const FlatRange& range) {
  Value parameters = Value::list();
  for (const Parameter* p : range.layout.parameters()) {
    Value shape = Value::list();
    for (const int64_t size : p->shape) shape.as_list().push_back(size);
    parameters.as_list().push_back(
        Value::list({p->name, std::move(shape), p->double_quant, static_cast<int>(p->init.kind), p->init.scale}));
  }
  return Value::map({{"storage", range.storage == Storage::nf4 ? "nf4" : "as stored"},
                     {"dtype", to_string(dtype_of(range.owned_dtype))},
                     {"bytes", range.owned_bytes()},
                     {"parameters", std::move(parameters)}});
}

}  // namespace

struct WeightCache::Found {
  std::shared_ptr<const FileMap> map;
  Value index;
};

std::string WeightCacheReport::text() const {
  const char* done = outcome == Outcome::made ? "made " : outcome == Outcome::renewed ? "found anew " : "reused ";
  return done + path.string() + ", " + bytes_text(static_cast<double>(bytes)) + (reason.empty() ? "" : ": " + reason);
}

std::filesystem::path weight_cache_directory(const Value& parallel) {
  if (const std::string given = parallel.get("weight_cache", ""); !given.empty()) return given;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache)
    return std::filesystem::path(cache) / "ftengine/weights";
  if (const char* home = std::getenv("HOME"); home && *home)
    return std::filesystem::path(home) / ".cache/ftengine/weights";
  throw Error(ErrorKind::config, "got nothing, want a directory: neither XDG_CACHE_HOME nor HOME is set")
      .key("parallel.weight_cache")
      .help("set it to a directory on a local disk");
}

WeightCache::WeightCache(const std::filesystem::path& directory, Shards& shards, const WeightSource& source)
    : source_(&source) {
  Value ranges = Value::list();
  for (auto& shard : shards) {
    for (FlatRange& range : shard->ranges()) {
      if (!range.mapped) continue;
      for (const Parameter* p : range.layout.parameters())
        if (!source.from_base(*p))
          throw Error(ErrorKind::config, "is frozen, and comes from elsewhere than the base model")
              .key(p->name)
              .help("frozen_weights: split takes it");
      ranges_.push_back(&range);
      ranges.as_list().push_back(described(range));
    }
  }
  const ModelDirectory* base = source.directory();
  const Growth* growth = base ? base->growth() : nullptr;
  settings_ = Value::map({{"format", kFormat}, {"ranges", std::move(ranges)}});
  files_ = base ? source_files(base->path()) : Value::list();
  settings_.set("source", base ? Value(std::filesystem::weakly_canonical(base->path()).string())
                               : Value("drawn from seed " + std::to_string(source.seed())));
  if (growth) settings_.set("grown", growth->to_value());
  const std::string text = write_json(settings_);
  const std::string name = base ? std::filesystem::weakly_canonical(base->path()).filename().string() : "drawn";
  path_ = directory / (name + "-" + hex_digits(checksum(std::as_bytes(std::span(text)))) + ".weights");
}

std::optional<WeightCache::Found> WeightCache::find(std::string& why) const {
  std::error_code ignored;
  if (!std::filesystem::exists(path_, ignored)) return std::nullopt;
  why = "what was there is cut short or damaged";
  try {
    const auto map = std::make_shared<const FileMap>(path_);
    const std::span<const std::byte> bytes = map->bytes();
    Trailer trailer;
    if (bytes.size() < sizeof trailer) return std::nullopt;
    const uint64_t end = bytes.size() - sizeof trailer;
    std::memcpy(&trailer, bytes.data() + end, sizeof trailer);
    if (trailer.magic != kMagic || trailer.index_begin > end || trailer.index_bytes != end - trailer.index_begin)
      return std::nullopt;
    const auto text = bytes.subspan(trailer.index_begin, trailer.index_bytes);
    if (checksum(text) != trailer.index_checksum) return std::nullopt;
    Value index = parse_json({reinterpret_cast<const char*>(text.data()), text.size()}, path_.string());
    if (index.at("settings") != settings_) return std::nullopt;
    why.clear();
    return Found{map, std::move(index)};
  } catch (const Error& e) {
    why += ": " + e.message();
    return std::nullopt;
  }
}

bool WeightCache::serves() const {
  std::string why;
  const auto found = find(why);
  return found && found->index.at("files") == files_;
}

int64_t WeightCache::source_bytes() const {
  int64_t bytes = 0;
  for (const FlatRange* range : ranges_)
    for (const Parameter* p : range->layout.parameters())
      bytes += p->numel() * static_cast<int64_t>(byte_size(source_->stored_dtype(*p)));
  return bytes;
}

// Only where headers and sizes are the same is the source worth reading.
bool WeightCache::same_contents(const Value& index) const {
  return same_but_for_places(index.at("files"), files_) &&
         content_checksums(source_->directory()->path(), files_) == index.at("contents");
}

WeightCacheReport WeightCache::map(const std::function<void(int64_t)>& progress) {
  std::error_code failed;
  std::filesystem::create_directories(path_.parent_path(), failed);
  if (failed)
    throw Error(ErrorKind::io, "cannot make the directory: " + failed.message())
        .at(path_.parent_path().string())
        .key("parallel.weight_cache");
  bool said = false;
  const LockedFile lock(path_.string() + ".lock", [&] {
    if (interrupted() != 0) throw Error(ErrorKind::interrupt, "stopped while another process makes " + path_.string());
    if (!std::exchange(said, true)) log_info("waiting for another process that makes " + path_.string());
  });
  WeightCacheReport report{.path = path_};
  auto found = find(report.reason);
  if (found && found->index.at("files") != files_) {
    if (same_contents(found->index)) {
      report.outcome = WeightCacheReport::Outcome::renewed;
      report.reason = "its source has another time or place and the same contents";
      found->index.set("files", files_);
      append_to_file(path_, with_trailer(found->index, found->map->bytes().size()));
    } else {
      report.reason = "its source has changed";
      found.reset();
    }
  }
  if (!found) {
    report.outcome = WeightCacheReport::Outcome::made;
    make(progress);
    std::string why;
    found = find(why);
    if (!found) throw Error(ErrorKind::io, "cannot be read back: " + why).at(path_.string());
  }
  point(*found);
  report.bytes = static_cast<int64_t>(found->map->bytes().size());
  return report;
}

// What processes that were killed while they made it have left.
void WeightCache::remove_leftovers() const {
  const std::string prefix = path_.filename().string() + ".tmp-";
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path_.parent_path(), ignored))
    if (entry.path().filename().string().starts_with(prefix)) std::filesystem::remove(entry.path(), ignored);
}

void WeightCache::make(const std::function<void(int64_t)>& progress) {
  remove_leftovers();
  uint64_t total = 0;
  for (const FlatRange* range : ranges_) total += on_page(static_cast<uint64_t>(range->owned_bytes()));
  NewFileMap file(path_, std::max<uint64_t>(total, kPage));
  Value ranges = Value::list();
  uint64_t offset = 0;
  for (const FlatRange* range : ranges_) {
    const auto bytes = static_cast<uint64_t>(range->owned_bytes());
    FlatRange filled{.storage = range->storage,
                     .owned_dtype = range->owned_dtype,
                     .gather_dtype = range->gather_dtype,
                     .atom_elements = range->atom_elements,
                     .layout = range->layout};
    filled.owned = at::from_blob(file.data() + offset, {range->layout.total() * range->atom_elements},
                                 at::TensorOptions(range->owned_dtype));
    load_range(filled, *source_, 0, *ProcessGroup::single(), progress);
    Value offsets = Value::list();
    for (const Parameter* p : range->layout.parameters())
      offsets.as_list().push_back(static_cast<int64_t>(std::bit_cast<uint32_t>(p->nested_offset)));
    ranges.as_list().push_back(Value::map({{"offset", static_cast<int64_t>(offset)},
                                           {"checksum", hex_digits(checksum({file.data() + offset, bytes}))},
                                           {"nested_offsets", std::move(offsets)}}));
    offset += on_page(bytes);
  }
  const ModelDirectory* base = source_->directory();
  file.commit(with_trailer(Value::map({{"settings", settings_},
                                       {"files", files_},
                                       {"contents", base ? content_checksums(base->path(), files_) : Value::list()},
                                       {"ranges", std::move(ranges)}}),
                           std::max<uint64_t>(total, kPage)));
}

void WeightCache::point(const Found& found) {
  const auto& places = found.index.at("ranges").as_list();
  for (size_t i = 0; i < ranges_.size(); ++i) {
    FlatRange& range = *ranges_[i];
    const Value& place = places.at(i);
    range.map_from(std::make_shared<MappedRange>(
        found.map, path_,
        MappedRange::Place{static_cast<uint64_t>(place.at("offset").as_integer()),
                           static_cast<uint64_t>(range.owned_bytes()),
                           std::strtoull(place.at("checksum").as_string().c_str(), nullptr, 16)}));
    const auto& offsets = place.at("nested_offsets").as_list();
    for (size_t p = 0; p < offsets.size(); ++p)
      range.layout.parameters()[p]->nested_offset =
          std::bit_cast<float>(static_cast<uint32_t>(offsets[p].as_integer()));
  }
}

}  // namespace ft
