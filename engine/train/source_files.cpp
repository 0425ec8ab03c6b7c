#include "engine/train/source_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <vector>

#include "engine/formats/file.h"
#include "engine/formats/file_error.h"
#include "engine/formats/hex_digits.h"

namespace ft {
namespace {

constexpr uint64_t kTail = 65536;

std::string header_hash(const InputFile& file) {
  uint64_t begin = file.size() - std::min(file.size(), kTail), length = file.size() - begin;
  if (file.path().extension() == ".safetensors" && file.size() >= sizeof length) {
    begin = 0;
    uint64_t header = 0;  // little-endian, as this machine is
    file.read(0, std::as_writable_bytes(std::span(&header, 1)));
    length = std::min(file.size(), header > file.size() ? kTail : header + sizeof header);
  }
  std::vector<std::byte> bytes(length);
  file.read(begin, bytes);
  return hex_digits(checksum(bytes));
}

Value described(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw file_error(path, "cannot read", errno);
  constexpr int64_t kBillion = 1'000'000'000;
  return Value::map({{"name", path.filename().string()},
                     {"bytes", static_cast<int64_t>(status.st_size)},
                     {"modified", int64_t{status.st_mtim.tv_sec} * kBillion + status.st_mtim.tv_nsec},
                     {"inode", static_cast<int64_t>(status.st_ino)},
                     {"header", header_hash(InputFile(path))}});
}

}  // namespace

Value source_files(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const auto extension = entry.path().extension();
    const bool weights = extension == ".safetensors" || extension == ".bin";
    if ((weights || entry.path().filename() == "config.json") && entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  Value files = Value::list();
  for (const auto& path : paths) files.as_list().push_back(described(path));
  return files;
}

bool same_but_for_places(const Value& a, const Value& b) {
  const auto& left = a.as_list();
  const auto& right = b.as_list();
  return std::equal(left.begin(), left.end(), right.begin(), right.end(), [](const Value& l, const Value& r) {
    return l.at("name") == r.at("name") && l.at("bytes") == r.at("bytes") && l.at("header") == r.at("header");
  });
}

Value content_checksums(const std::filesystem::path& directory, const Value& files) {
  Value checksums = Value::list();
  for (const Value& file : files.as_list())
    checksums.as_list().push_back(hex_digits(file_checksum(directory / file.at("name").as_string())));
  return checksums;
}

}  // namespace ft
