// The checkpoints of a run directory: found, picked, pruned.
#include <algorithm>
#include <charconv>

#include "engine/error/error.h"
#include "engine/formats/checkpoint.h"
#include "engine/formats/checkpoint_links.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

struct Candidate {
  int64_t step;
  fs::path path;
};

std::vector<Candidate> candidates(const fs::path& run_directory) {
  std::vector<Candidate> result;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(run_directory, error))
    if (const auto step = checkpoint_step(entry.path()); step && entry.is_directory())
      result.push_back({*step, entry.path()});
  std::sort(result.begin(), result.end(), [](const Candidate& a, const Candidate& b) { return a.step < b.step; });
  return result;
}

bool is_newer_format(const fs::path& checkpoint) try {
  const Value manifest = read_json(checkpoint / "manifest.json", {.origins = false});
  return manifest.get("format_version", 0) > kCheckpointVersion;
} catch (const Error&) {
  return false;
}

void remove_checkpoint(const fs::path& checkpoint) {
  std::error_code error;
  fs::remove(checkpoint / "manifest.json", error);
  if (!error) fs::remove_all(checkpoint, error);
  if (error) throw Error(ErrorKind::io, "cannot remove: " + error.message()).at(checkpoint.string());
}

}  // namespace

std::optional<int64_t> checkpoint_step(const fs::path& directory) {
  constexpr std::string_view kPrefix = "checkpoint-";
  const std::string name = directory.has_filename() ? directory.filename() : directory.parent_path().filename();
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int64_t step = 0;
  const char *first = name.data() + kPrefix.size(), *last = name.data() + name.size();
  const auto [end, error] = std::from_chars(first, last, step);
  if (error != std::errc() || end != last || step < 0) return std::nullopt;
  return step;
}

std::vector<fs::path> list_checkpoints(const fs::path& run_directory) {
  std::vector<fs::path> result;
  for (const Candidate& candidate : candidates(run_directory))
    if (is_whole_checkpoint(candidate.path)) result.push_back(candidate.path);
  return result;
}

bool is_whole_checkpoint(const fs::path& checkpoint) try {
  Checkpoint opened(checkpoint);
  return true;
} catch (const Error&) {
  return false;
}

std::optional<fs::path> newest_checkpoint(const fs::path& run_directory, std::string* passed_over) {
  std::vector<Candidate> all = candidates(run_directory);
  for (auto candidate = all.rbegin(); candidate != all.rend(); ++candidate) {
    if (is_newer_format(candidate->path)) Checkpoint refused(candidate->path);  // throws, naming both versions
    try {
      Checkpoint whole(candidate->path);
      return candidate->path;
    } catch (const Error& error) {
      if (passed_over && fs::exists(candidate->path / "manifest.json"))
        *passed_over += (passed_over->empty() ? "" : "; ") + error.where() + ": " + error.message();
    }
  }
  return std::nullopt;
}

void prune_checkpoints(const fs::path& run_directory, int64_t keep) {
  if (keep <= 0) return;
  const std::vector<fs::path> all = list_checkpoints(run_directory);
  const auto latest = linked_checkpoint(run_directory, kLatestLink), best = linked_checkpoint(run_directory, kBestLink);
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); ++i)
    if (all[i] != latest && all[i] != best) remove_checkpoint(all[i]);
}

void remove_checkpoints_after(const fs::path& run_directory, int64_t step) {
  for (const Candidate& candidate : candidates(run_directory))
    if (candidate.step > step) remove_checkpoint(candidate.path);
}

}  // namespace ft
