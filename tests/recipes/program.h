#pragma once
/// The built program, run as a user runs it: arguments in; exit code, stdout and stderr out. For tests/recipes; one
/// thread.

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/temporary_directory.h"

/// Paths of the checkout and of the program that was built from it (CMakeLists.txt makes them).
const char* ft_source_dir();
const char* ft_program();

namespace ft::test {

namespace fs = std::filesystem;

struct Finished {
  int exit_code = -1;  ///< 128 + signal where a signal ended it; -1 past the limit, after which it is killed
  std::string out, err;
};

/// A program at work, its output kept in files. Killed at the end if it still runs.
class Program {
 public:
  /// @param words without the program's name   @param folder its working directory
  Program(const std::vector<std::string>& words, const fs::path& folder);
  ~Program();
  Program(const Program&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  bool running() const;  ///< it has not ended yet; wait() tells how it did
  Finished wait(std::chrono::seconds limit = std::chrono::seconds(120));

 private:
  pid_t pid_ = -1;
  fs::path out_, err_;
};

/// Runs to the end.
Finished run(const std::vector<std::string>& words, const fs::path& folder);
/// Runs a line of shell in which `ftengine` is the program.
Finished shell(const std::string& line, const fs::path& folder);

/// Writes a recipe of the checkout into `folder` with texts replaced; each must be there once or more.
/// @return the copy's path
fs::path recipe(const std::string& name, const fs::path& folder,
                const std::vector<std::pair<std::string, std::string>>& replaced = {});

}  // namespace ft::test
