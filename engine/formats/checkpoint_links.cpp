#include "engine/formats/checkpoint_links.h"

#include "engine/error/error.h"
#include "engine/formats/checkpoint.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

std::optional<double> validation_loss(const fs::path& checkpoint) try {
  const Checkpoint opened(checkpoint);
  const Value* loss = opened.header().find(kValidationLoss);
  return loss && loss->is_number() ? std::optional(loss->as_number()) : std::nullopt;
} catch (const Error&) {
  return std::nullopt;
}

bool is_best(const fs::path& checkpoint) {
  const std::optional<double> loss = validation_loss(checkpoint);
  if (!loss) return false;
  const auto standing = linked_checkpoint(checkpoint.parent_path(), kBestLink);
  if (!standing || standing->filename() == checkpoint.filename()) return true;
  const std::optional<double> best = validation_loss(*standing);
  return !best || *loss < *best;
}

// Made beside its place and renamed into it. @return why not, "" when it stands
std::string set_link(const fs::path& link, const fs::path& target) {
  if (fs::exists(fs::symlink_status(link)) && !fs::is_symlink(link)) return link.string() + " is no link";
  const fs::path made = link.string() + ".new";
  std::error_code error;
  fs::remove(made, error);
  fs::create_directory_symlink(target, made, error);
  if (!error) fs::rename(made, link, error);
  return error ? link.string() + ": " + error.message() : "";
}

}  // namespace

std::vector<std::string> link_checkpoint(const fs::path& checkpoint) {
  std::vector<std::string> failed;
  const auto set = [&](const char* link) {
    if (std::string why = set_link(checkpoint.parent_path() / link, checkpoint.filename()); !why.empty())
      failed.push_back(std::move(why));
  };
  set(kLatestLink);
  if (is_best(checkpoint)) set(kBestLink);
  return failed;
}

std::optional<fs::path> linked_checkpoint(const fs::path& run_directory, const char* link) {
  const fs::path path = run_directory / link;
  std::error_code error;
  if (!fs::is_symlink(path, error)) return std::nullopt;
  const fs::path target = fs::read_symlink(path, error);
  if (error || target != target.filename() || !checkpoint_step(target)) return std::nullopt;
  return fs::is_directory(run_directory / target, error) ? std::optional(run_directory / target) : std::nullopt;
}

fs::path without_link(const fs::path& path) {
  for (const char* link : {kLatestLink, kBestLink})
    if (path.filename() == link)
      if (const auto checkpoint = linked_checkpoint(path.parent_path(), link)) return *checkpoint;
  return path;
}

}  // namespace ft
