#include "engine/data/data_files.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <map>

#include "engine/data/rows.h"
#include "engine/error/error.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const std::string& path, const std::string& message, const std::string& help) {
  throw Error(ErrorKind::config, message).at(path).help(help);
}

/// Which split a file's name speaks of, as the Hugging Face hub reads it: a word of its name, or of its folder's.
std::string split_of(const fs::path& below) {
  static const std::map<std::string, std::string> kWords{
      {"train", "train"},           {"training", "train"},   {"test", "test"},
      {"testing", "test"},          {"eval", "test"},        {"evaluation", "test"},
      {"validation", "validation"}, {"valid", "validation"}, {"val", "validation"},
      {"dev", "validation"}};
  const std::string text = below.string();
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find_first_of("/-_. ", begin), text.size());
    if (const auto word = kWords.find(text.substr(begin, end - begin)); word != kWords.end()) return word->second;
    begin = end + 1;
  }
  return "";
}

/// What other tools write beside data.
bool describes_data(const std::string& name) {
  static const char* const kNames[] = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json",
                                       "README.md",         "LICENSE.txt",        "LICENSE.md"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code failed;
  for (auto entry = fs::recursive_directory_iterator(folder, failed); !failed && entry != fs::end(entry);
       entry.increment(failed)) {
    const std::string name = entry->path().filename();
    if (name.starts_with('.')) {
      entry.disable_recursion_pending();
      continue;
    }
    if (is_data_file(name) && !describes_data(name) && entry->is_regular_file()) found.push_back(entry->path());
  }
  if (failed) throw Error(ErrorKind::io, "cannot read the folder: " + failed.message()).at(folder.string());
  std::sort(found.begin(), found.end());
  if (found.empty())
    refuse(folder.string(), "the directory holds no data files",
           "they end in .jsonl, .json, .csv, .tsv or .txt, with .gz or .zst behind that where they are compressed");
  std::map<std::string, fs::path> splits;
  for (const fs::path& file : found) splits.emplace(split_of(file.lexically_relative(folder)), file);
  splits.erase("");
  if (splits.size() > 1)
    refuse(folder.string(),
           fmt::format("the directory holds the files of several splits: {} and {}",
                       splits.begin()->second.lexically_relative(folder).string(),
                       splits.rbegin()->second.lexically_relative(folder).string()),
           "name those that are meant by a glob: " + (folder / "train*").string());
  return found;
}

std::vector<fs::path> files_of_glob(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_BRACE | GLOB_TILDE, nullptr, &found);  // sorted by name
  std::vector<fs::path> out;
  for (size_t i = 0; status == 0 && i < found.gl_pathc; ++i)
    if (fs::is_regular_file(found.gl_pathv[i])) out.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
  if (out.empty()) refuse(pattern, "no file fits the pattern", "as a shell reads it: * ? [a-z] {a,b}; no **");
  return out;
}

void add(const Value& given, std::vector<DataFile>& out) {
  if (given.is_list()) {
    for (const Value& one : given.as_list()) add(one, out);
    return;
  }
  double weight = 1;
  const Value* path = &given;
  if (given.is_map()) {
    path = &given.at("path");
    weight = given.get("weight", 1.0);
    for (const auto& [key, value] : given.as_map())
      if (key != "path" && key != "weight")
        throw Error(ErrorKind::config, "a source of data has no '" + key + "'")
            .key("path")
            .help("write { path = \"FILE\", weight = 2 }");
  }
  const std::string& name = path->as_string();
  if (!(weight > 0 && weight <= 1000))
    refuse(name, fmt::format("got weight = {}, want more than 0 and at most 1000", weight),
           "leave a source out that shall not be read");
  std::vector<fs::path> files{name};
  if (fs::is_directory(name))
    files = files_below(name);
  else if (!fs::exists(name) && name.find_first_of("*?[{") != std::string::npos)
    files = files_of_glob(name);
  for (fs::path& file : files) out.push_back({std::move(file), weight});
}

}  // namespace

std::vector<DataFile> list_data_files(const Value& given) {
  std::vector<DataFile> out;
  add(given, out);
  if (out.empty()) throw Error(ErrorKind::config, "got an empty list, want files").key("path");
  return out;
}

}  // namespace ft
