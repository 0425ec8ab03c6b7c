#include "engine/data/token_cache.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>

#include "engine/data/token_rows.h"
#include "engine/error/error.h"
#include "engine/formats/file_error.h"
#include "engine/formats/hex_digits.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[8] = {'F', 'T', 'T', 'O', 'K', 'E', 'N', 'S'};

/// Stands at the end of the file, since what it says is known last. Before it: 8 bytes a token, documents + 1 starts,
/// documents lines, and the record, JSON padded with blanks to a multiple of 8.
struct Trailer {
  char magic[8];
  uint64_t version, tokens, documents, record_bytes;
  uint64_t index_hash;  ///< XXH3 (64 bits) of starts, lines and record
};

[[noreturn]] void damaged(const std::string& path, const std::string& why) {
  throw Error(ErrorKind::format, "is no cache of tokens: " + why).at(path).help("remove the file; it is made again");
}

template <class T>
void write_all(OutputFile& file, std::span<const T> values) {
  file.write(std::as_bytes(values));
}

}  // namespace

MappedTokens::MappedTokens(const fs::path& path) : file_(path.string()), map_(path) {
  const std::span<const std::byte> bytes = map_.bytes();
  Trailer end{};
  if (bytes.size() < sizeof end) damaged(file_, "it is cut short");
  std::memcpy(&end, bytes.data() + bytes.size() - sizeof end, sizeof end);
  if (std::memcmp(end.magic, kMagic, sizeof kMagic) != 0) damaged(file_, "it does not end as one");
  if (end.version != kTokenCacheVersion) damaged(file_, fmt::format("it is of version {}", end.version));
  const uint64_t room = bytes.size() / 8;  // so that the sum below cannot overflow
  if (end.tokens > room || end.documents > room || end.record_bytes > bytes.size() || end.record_bytes % 8 != 0 ||
      8 * end.tokens + 8 * (2 * end.documents + 1) + end.record_bytes + sizeof end != bytes.size())
    damaged(file_, "its sizes do not add up");
  const auto index = bytes.subspan(8 * end.tokens, bytes.size() - 8 * end.tokens - sizeof end);
  if (checksum(index) != end.index_hash) damaged(file_, "its index is damaged");
  tokens_ = {reinterpret_cast<const int32_t*>(bytes.data()), 2 * end.tokens};
  starts_ = {reinterpret_cast<const int64_t*>(index.data()), end.documents + 1};
  lines_ = {starts_.data() + starts_.size(), end.documents};
  for (size_t i = 0; i < end.documents; ++i)
    if (starts_[i] > starts_[i + 1]) damaged(file_, "its documents overlap");
  if (starts_.front() != 0 || static_cast<uint64_t>(starts_.back()) != end.tokens)
    damaged(file_, "its documents are not all of it");
  record_ = parse_json({reinterpret_cast<const char*>(lines_.data() + lines_.size()), end.record_bytes}, file_);
  if (!record_.is_map()) damaged(file_, "its record is no object");
}

TokenCacheWriter::TokenCacheWriter(fs::path path) : file_(std::move(path)) {}

void TokenCacheWriter::add(TokenRows& rows) { write_all<int32_t>(file_, rows.take_tokens()); }

void TokenCacheWriter::commit(TokenRows& rows) {
  add(rows);
  std::string record = write_json(rows.record());
  record.resize((record.size() + 7) / 8 * 8, ' ');
  std::vector<char> index;
  const auto append = [&](const auto& values) {
    const auto bytes = std::as_bytes(values);
    index.insert(index.end(), reinterpret_cast<const char*>(bytes.data()),
                 reinterpret_cast<const char*>(bytes.data()) + bytes.size());
  };
  append(rows.starts());
  append(rows.lines());
  append(std::span<const char>(record));
  Trailer end{};
  std::memcpy(end.magic, kMagic, sizeof kMagic);
  end.version = kTokenCacheVersion;
  end.tokens = static_cast<uint64_t>(rows.num_tokens());
  end.documents = static_cast<uint64_t>(rows.size());
  end.record_bytes = record.size();
  end.index_hash = checksum(std::as_bytes(std::span(index)));
  write_all<char>(file_, index);
  write_all<Trailer>(file_, std::span(&end, 1));
  file_.commit();
}

std::string cache_key(const Value& description) {
  const std::string text = write_json(description);
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return hex_digits(hash.high64) + hex_digits(hash.low64);
}

std::optional<Value> describe_files(const std::vector<DataFile>& files, const fs::path& folder, bool add) {
  const fs::path known_file = folder / "files.json";
  Value known = Value::map();
  if (fs::exists(known_file)) {
    try {
      known = read_json(known_file, {.origins = false});
    } catch (const Error&) {  // files are hashed again
    }
    if (!known.is_map()) known = Value::map();
  }
  bool changed = false;
  Value::List out;
  for (const DataFile& file : files) {
    const fs::path path = fs::absolute(file.path).lexically_normal();
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) throw file_error(path, "cannot read", errno);
    const std::string stamp = fmt::format("{} {}.{:09} {}.{:09} {}:{}", status.st_size, status.st_mtim.tv_sec,
                                          status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
                                          status.st_dev, status.st_ino);  // tools set mtime back, none sets ctime
    const Value* before = known.find(path.string());
    if (!before && !add) return std::nullopt;
    std::string hash = before && before->get("stamp", "") == stamp ? before->get("hash", "") : "";
    if (hash.empty()) {
      hash = hex_digits(file_checksum(path));
      known.set(path.string(), Value::map({{"stamp", stamp}, {"hash", hash}}));
      changed = true;
    }
    out.push_back(Value::map({{"name", path.filename().string()},
                              {"size", static_cast<int64_t>(status.st_size)},
                              {"hash", hash},
                              {"weight", file.weight}}));
  }
  if (changed) write_text(known_file, write_json(known, 1) + "\n");
  return Value(std::move(out));
}

}  // namespace ft
