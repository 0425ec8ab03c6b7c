#include "engine/parallel/launch.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "engine/parallel/node_link.h"
#include "engine/parallel/supervisor.h"
#include "engine/parallel/tcp.h"

namespace ft {
namespace {

constexpr const char* kLoopback = "127.0.0.1";

std::string told_run_directory(int file) {
  std::string text(4096, '\0');
  const ssize_t size = pread(file, text.data(), text.size(), 0);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, size)));
  return text;
}

void say_restart(int restarts, const LaunchOptions& options, const NodePlace& place) {
  std::string nodes = options.nodes.count > 1 ? " on " + std::to_string(place.nodes) + " node" : "";
  if (place.nodes > 1) nodes += "s";
  std::fprintf(
      stderr, "restart %d of %d, %d ranks%s, %s\n", restarts, options.max_restarts, place.world_size, nodes.c_str(),
      place.restart_in.empty() ? "from the beginning" : ("from the newest checkpoint in " + place.restart_in).c_str());
}

/// One start of this machine's ranks, from its meeting with other nodes to what they make of it.
Verdict run_once(const std::vector<std::string>& arguments, LaunchOptions& options, NodeLink* nodes, LocalStart start,
                 int restarts) {
  start.nproc = options.nproc;
  start.place.world_size = options.nproc;
  Fd store;
  if (!nodes || nodes->first()) store = listen_at(nodes ? "" : kLoopback, start.place.master_port);
  if (nodes) start.place = nodes->meet(options.nproc, start.place, restarts > 0 ? options.min_nproc : 0);
  if (restarts > 0) say_restart(restarts, options, start.place);
  start.store_fd = store.get();
  Ending ending;
  {
    Supervisor supervisor(start, nodes);
    supervisor.start(arguments);
    store.reset();
    ending = supervisor.supervise();
  }
  const bool tries_left = restarts < options.max_restarts;
  if (nodes) return nodes->conclude(ending, tries_left);
  if (options.min_nproc > 0) options.nproc = std::max(options.min_nproc, options.nproc - ending.failed_ranks);
  return {
      .again = ending.exit_code != 0 && ending.again && tries_left, .exit_code = ending.exit_code, .text = ending.text};
}

}  // namespace

int launch_local_ranks(const std::vector<std::string>& arguments, const LaunchOptions& wanted) {
  FT_CHECK(wanted.nproc >= 1 && !arguments.empty(), "launch_local_ranks: at least one rank, and argv[0]");
  LaunchOptions options = wanted;
  const Fd run_file(memfd_create("ftengine-run", MFD_CLOEXEC));
  if (!run_file)
    throw Error(ErrorKind::io, std::string("cannot make a file in memory: ") + std::strerror(errno))
        .context("starting local ranks");
  const auto nodes = options.nodes.count > 1 ? NodeLink::make(options.nodes) : nullptr;
  LocalStart start{.run_fd = run_file.get(), .grace_seconds = options.grace_seconds};
  if (nodes) start.master_addr = nodes->first_address();
  for (int restarts = 0;; ++restarts) {
    start.place = NodePlace{.restart_in = told_run_directory(run_file.get())};
    const Verdict verdict = run_once(arguments, options, nodes.get(), start, restarts);
    if (!verdict.text.empty()) std::fprintf(stderr, "%s\n", verdict.text.c_str());
    if (!verdict.again) return verdict.exit_code;
  }
}

void report_run_directory(const std::string& directory) {
  const char* fd = std::getenv(kRunFd);
  if (!fd || !*fd) return;
  const int file = std::atoi(fd);
  if (ftruncate(file, 0) != 0 ||
      pwrite(file, directory.data(), directory.size(), 0) != static_cast<ssize_t>(directory.size()))
    throw Error(ErrorKind::io, std::string("cannot tell the supervisor where the run is: ") + std::strerror(errno));
}

std::string restart_directory() {
  const char* directory = std::getenv(kRestartIn);
  return directory ? directory : "";
}

bool under_launcher() { return std::getenv(kErrorFd) != nullptr; }

void report_fatal(const Error& error) {
  std::string text = error.what();
  if (const char* fd = std::getenv(kErrorFd)) {
    text = std::string(to_string(error.kind())) + "\n" + text;
    size_t written = 0;
    while (written < text.size()) {
      const ssize_t n = ::write(std::atoi(fd), text.data() + written, text.size() - written);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      written += static_cast<size_t>(n);
    }
    if (written == text.size()) return;
    text = error.what();
  }
  std::fprintf(stderr, "%s\n", text.c_str());
}

int listen_on_loopback(int& port) { return listen_at(kLoopback, port).release(); }

}  // namespace ft
