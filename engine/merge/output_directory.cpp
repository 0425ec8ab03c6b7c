#include "engine/merge/output_directory.h"

#include <unistd.h>

#include <string>
#include <system_error>

#include "engine/error/error.h"
#include "engine/formats/file.h"

namespace ft {

namespace fs = std::filesystem;

OutputDirectory::OutputDirectory(const fs::path& path, uint64_t bytes) : path_(fs::absolute(path).lexically_normal()) {
  if (!path_.has_filename()) path_ = path_.parent_path();
  std::error_code error;
  const bool exists = fs::exists(fs::symlink_status(path_, error));
  if (exists && !(fs::is_directory(path_) && fs::is_empty(path_)))
    throw Error(ErrorKind::config,
                fs::is_directory(path_) ? "is not empty, and nothing is overwritten" : "is no directory")
        .at(path_.string())
        .help("name another directory with -o");
  fs::create_directories(path_.parent_path(), error);
  const fs::space_info space = fs::space(path_.parent_path(), error);
  if (!error && space.available < bytes)
    throw Error(ErrorKind::io,
                "got " + std::to_string(space.available) + " bytes free on its disk, want " + std::to_string(bytes))
        .at(path_.string());
  temporary_ = path_.string() + ".tmp-" + std::to_string(::getpid());
  fs::remove_all(temporary_, error);
  if (!fs::create_directory(temporary_, error))
    throw Error(ErrorKind::io, "cannot create: " + error.message()).at(temporary_.string());
}

OutputDirectory::~OutputDirectory() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void OutputDirectory::commit() {
  std::error_code error;
  fs::rename(temporary_, path_, error);
  if (error) throw Error(ErrorKind::io, "cannot be renamed into place: " + error.message()).at(path_.string());
  committed_ = true;
  sync_directory(path_.parent_path());
}

}  // namespace ft
