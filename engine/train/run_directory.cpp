#include "engine/train/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <utility>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/file_error.h"
#include "engine/formats/hex_digits.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLockFile = "lock";

// Names in a directory that only a run leaves there.
std::vector<std::string> traces_of_a_run(const fs::path& path) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename();
    const bool known =
        name == "run.json" || name == "plan.json" || name == "metrics.jsonl" || name == "adapter_config.json";
    if (known || name.rfind("checkpoint-", 0) == 0) found.push_back(name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 6; ++i) text += (i ? ", " : "") + names[i];
  return names.size() > 6 ? text + ", …" : text;
}

// The highest number that base-<number> carries; 0 when there is none.
int64_t highest_number(const fs::path& base) {
  const fs::path parent = base.has_parent_path() ? base.parent_path() : fs::path(".");
  const std::string prefix = base.filename().string() + "-";
  int64_t highest = 0;
  for (const auto& entry : fs::directory_iterator(parent)) {
    const std::string name = entry.path().filename();
    int64_t number = 0;
    if (name.rfind(prefix, 0) != 0) continue;
    const auto [end, error] = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size()) highest = std::max(highest, number);
  }
  return highest;
}

void make_directories(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw Error(ErrorKind::io, "cannot be made: " + error.message()).at(path.string());
}

}  // namespace

Value RunRecord::to_value() const {
  char time[32];
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", &utc);
  Value files = Value::map(), names = Value::list(), words = Value::list();
  for (const auto& [split, path] : data) {
    Value file = Value::map({{"path", fs::absolute(path).string()},
                             {"bytes", static_cast<int64_t>(fs::file_size(path))},
                             {"xxh3", hex_digits(file_checksum(path))}});
    Value* const before = files.find(split);
    if (before && before->is_map()) *before = Value::list({*before});
    if (before)
      before->as_list().push_back(std::move(file));
    else
      files.set(split, std::move(file));
  }
  for (const std::string& name : quantized) names.as_list().push_back(name);
  for (const std::string& word : command) words.as_list().push_back(word);
  return Value::map({
      {"versions",
       Value::map({{"ftengine", FTENGINE_VERSION}, {"libtorch", TORCH_VERSION}, {"compiler", __VERSION__}})},
      {"started", time},
      {"command", words},
      {"base_model", base_model.empty() ? Value() : Value(base_model)},
      {"model_fingerprint", model_fingerprint.empty() ? Value() : Value(model_fingerprint)},
      {"quantized", names},
      {"double_quant", double_quant},
      {"compute", compute},
      {"seed", static_cast<int64_t>(seed)},
      {"world_size", world_size},
      {"data", files},
      {"grown", grown},
  });
}

RunDirectory::RunDirectory(fs::path path) : path_(fs::absolute(std::move(path)).lexically_normal()) {
  const fs::path lock = path_ / kLockFile;
  lock_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) throw file_error(lock, "cannot be opened", errno);
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    char holder[64] = {};
    const ssize_t length = ::pread(lock_, holder, sizeof holder - 1, 0);
    ::close(std::exchange(lock_, -1));
    const std::string who(holder, std::max<ssize_t>(0, length));
    throw Error(ErrorKind::config,
                "another run is at work here" + (who.empty() ? "" : ", process " + who.substr(0, who.find('\n'))))
        .at(path_.string())
        .help("wait for it, or give this run a directory of its own with --out");
  }
  // The lock is the kernel's and dies with the process; the number is for people.
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock_, 0) != 0 || ::pwrite(lock_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    const Error error = file_error(lock, "cannot be written", errno);
    ::close(std::exchange(lock_, -1));
    throw error;
  }
}

RunDirectory::RunDirectory(RunDirectory&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}

RunDirectory::~RunDirectory() {
  if (lock_ < 0) return;
  std::error_code ignored;
  fs::remove(path_ / kLockFile, ignored);
  ::close(lock_);
}

RunDirectory RunDirectory::create_numbered(const fs::path& base) {
  const fs::path absolute = fs::absolute(base).lexically_normal();
  make_directories(absolute.parent_path());
  for (int64_t number = highest_number(absolute) + 1;; ++number) {
    const fs::path path = absolute.string() + "-" + std::to_string(number);
    if (::mkdir(path.c_str(), 0755) == 0) return RunDirectory(path);
    if (errno != EEXIST) throw file_error(path, "cannot be made", errno);
  }
}

RunDirectory RunDirectory::create_at(const fs::path& path) {
  make_directories(path);
  RunDirectory directory(path);
  if (const auto traces = traces_of_a_run(directory.path_); !traces.empty())
    throw Error(ErrorKind::config, "holds a run already (" + listed(traces) + "), and nothing is overwritten")
        .at(directory.path_.string())
        .key("--out")
        .help("add --resume auto to go on with it, name another directory, or leave --out away for a fresh one");
  return directory;
}

RunDirectory RunDirectory::reopen(const fs::path& path) {
  if (!fs::exists(path / "run.json"))
    throw Error(ErrorKind::config, "holds no run: run.json is missing")
        .at(path.string())
        .help("name the directory that a run printed when it started");
  return RunDirectory(path);
}

void RunDirectory::write(const RunContents& contents) const {
  const auto put = [&](const char* name, const Value& value) {
    if (!value.is_null()) write_text(path_ / name, write_json(value, 2) + "\n");
  };
  put("plan.json", contents.plan);
  put("config.json", contents.config);
  put("adapter_config.json", contents.adapter_config);
  for (const fs::path& file : contents.companions) copy_whole(file, path_ / file.filename());
  for (const auto& [name, text] : contents.texts) write_text(path_ / name, text);
  put("run.json", contents.record.to_value());  // last: with it the rest is there
}

}  // namespace ft
