#include "engine/data/data_files.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <map>

#include "engine/data/rows.h"
#include "engine/error/error.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const std::string& path, const std::string& message, const std::string& help) {
  Error error(ErrorKind::config, message);
  error.at(path);
  if (!help.empty()) error.help(help);
  throw error;
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
  if (name.starts_with("cache-") && name.ends_with(".arrow")) return true;  // of Hugging Face's Dataset.map
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

/// Leaves out what lies in a folder of Hugging Face's save_to_disk from other times: its state.json lists its files.
void leave_out_unlisted(std::vector<fs::path>& files) {
  std::map<fs::path, std::vector<fs::path>> listed;
  for (const fs::path& file : files) {
    const fs::path folder = file.parent_path(), state = folder / "state.json";
    if (listed.contains(folder)) continue;
    std::vector<fs::path>& here = listed[folder];
    if (!fs::is_regular_file(state)) continue;
    const Value read = read_json(state, {.origins = false});
    const Value* names = read.find("_data_files");
    if (!names || !names->is_list()) continue;
    for (const Value& one : names->as_list()) {
      here.push_back(folder / one.get("filename", ""));
      if (!fs::is_regular_file(here.back()))
        refuse(state.string(), "lists the file '" + here.back().filename().string() + "', which is not there",
               "the data set is not whole: fetch or save it again");
    }
  }
  std::erase_if(files, [&](const fs::path& file) {
    const std::vector<fs::path>& here = listed[file.parent_path()];
    return !here.empty() && std::find(here.begin(), here.end(), file) == here.end();
  });
}

std::vector<fs::path> data_files_below(const fs::path& folder) {
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
  leave_out_unlisted(found);
  if (found.empty())
    refuse(
        folder.string(), "the directory holds no data files",
        "they end in .jsonl, .json, .csv, .tsv or .txt, with .gz or .zst behind that where they are compressed, or in "
        ".parquet, .arrow or .feather");
  return found;
}

/// @param part the split whose files are taken, or "": all files, which must not be of several
std::vector<fs::path> files_below(const fs::path& folder, const std::string& part) {
  std::vector<fs::path> found = data_files_below(folder);
  const auto split = [&](const fs::path& file) { return split_of(file.lexically_relative(folder)); };
  std::map<std::string, fs::path> splits;
  for (const fs::path& file : found) splits.emplace(split(file), file);
  if (!part.empty() && splits.size() == 1 && splits.contains("") && part == "train") return found;
  splits.erase("");
  if (part.empty() && splits.size() <= 1) return found;
  if (part.empty())
    refuse(folder.string(),
           fmt::format("the directory holds the files of several splits: {} and {}",
                       splits.begin()->second.lexically_relative(folder).string(),
                       splits.rbegin()->second.lexically_relative(folder).string()),
           fmt::format("name the split: path = {{ {{ path = \"{}\", part = \"{}\" }} }}", folder.string(),
                       splits.contains("train") ? "train" : splits.begin()->first));
  std::erase_if(found, [&](const fs::path& file) { return split(file) != part; });
  std::string there;
  for (const auto& [name, file] : splits) there += (there.empty() ? "" : ", ") + name;
  if (found.empty())
    refuse(folder.string(), "the directory holds no files of the split '" + part + "'",
           "splits that its files' names speak of: " + (there.empty() ? "none" : there));
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
  std::string part;
  const Value* path = &given;
  if (given.is_map()) {
    path = &given.at("path");
    weight = given.get("weight", 1.0);
    part = given.get("part", "");
    for (const auto& [key, value] : given.as_map())
      if (key != "path" && key != "weight" && key != "part")
        throw Error(ErrorKind::config, "a source of data has no '" + key + "'")
            .key("path")
            .help("write { path = \"FILE\", weight = 2, part = \"train\" }");
  }
  const std::string& name = path->as_string();
  if (!(weight > 0 && weight <= 1000))
    refuse(name, fmt::format("got weight = {}, want more than 0 and at most 1000", weight),
           "leave a source out that shall not be read");
  if (!part.empty() && part != split_of(part))
    refuse(name, "got part = '" + part + "', want train, validation or test", "");
  if (!part.empty() && !fs::is_directory(name))
    refuse(name, "part chooses among the files of a directory, and this is none", "remove it");
  std::vector<fs::path> files{name};
  if (fs::is_directory(name))
    files = files_below(name, part);
  else if (!fs::exists(name) && name.find_first_of("*?[{") != std::string::npos)
    files = files_of_glob(name);
  for (fs::path& file : files) out.push_back({std::move(file), weight});
}

}  // namespace

std::vector<DataFile> list_data_files(const Value& given) {
  std::vector<DataFile> out;
  try {
    add(given, out);
  } catch (const fs::filesystem_error& error) {  // a loop of links, a folder that may not be read
    throw Error(ErrorKind::io, "cannot read: " + error.code().message()).at(error.path1().string());
  }
  if (out.empty()) throw Error(ErrorKind::config, "got an empty list, want files").key("path");
  return out;
}

}  // namespace ft
