#include "tests/recipes/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

namespace ft::test {
namespace {

int counter = 0;  // of programs started, to name their outputs

pid_t start(const char* file, const std::vector<std::string>& words, const fs::path& folder, const fs::path& out,
            const fs::path& err) {
  std::vector<char*> argv{const_cast<char*>(file)};
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const int err_fd = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
  dup2(out_fd, STDOUT_FILENO);
  dup2(err_fd, STDERR_FILENO);
  // Two ranks on few cores: threads that spin at barriers would only take turns.
  setenv("OMP_NUM_THREADS", "1", 1);
  if (chdir(folder.c_str()) != 0) _exit(126);
  execv(file, argv.data());
  _exit(127);
}

}  // namespace

Program::Program(const std::vector<std::string>& words, const fs::path& folder) {
  const std::string stem = "ftengine-output-" + std::to_string(getpid()) + "-" + std::to_string(counter++);
  out_ = fs::temp_directory_path() / (stem + ".out");
  err_ = fs::temp_directory_path() / (stem + ".err");
  pid_ = start(ft_program(), words, folder, out_, err_);
}

Program::~Program() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  fs::remove(out_, ignored);
  fs::remove(err_, ignored);
}

void Program::signal(int number) const { ::kill(pid_, number); }

bool Program::running() const {
  siginfo_t ended{};
  return pid_ > 0 && waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         ended.si_pid == 0;
}

Finished Program::wait(std::chrono::seconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  int status = 0;
  Finished result;
  while (::waitpid(pid_, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    ADD_FAILURE() << "still running after " << limit.count() << " s";
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return {-1, slurp(out_), slurp(err_)};
  }
  pid_ = -1;
  return {WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), slurp(out_), slurp(err_)};
}

Finished run(const std::vector<std::string>& words, const fs::path& folder) { return Program(words, folder).wait(); }

Finished shell(const std::string& line, const fs::path& folder) {
  const fs::path out = folder / "shell.out", err = folder / "shell.err";
  const std::string path = fs::path(ft_program()).parent_path().string() + ":" + std::getenv("PATH");
  const pid_t pid = start("/bin/sh", {"-c", "PATH='" + path + "'; " + line}, folder, out, err);
  int status = 0;
  ::waitpid(pid, &status, 0);
  const Finished result{WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), slurp(out), slurp(err)};
  fs::remove(out);
  fs::remove(err);
  return result;
}

fs::path recipe(const std::string& name, const fs::path& folder,
                const std::vector<std::pair<std::string, std::string>>& replaced) {
  std::string text = slurp(fs::path(ft_source_dir()) / "recipes" / name);
  for (const auto& [from, to] : replaced) {
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << name << " no longer says: " << from;
    if (at != std::string::npos) text.replace(at, from.size(), to);
  }
  const fs::path copy = folder / name;
  spill(copy, text);
  return copy;
}

}  // namespace ft::test
