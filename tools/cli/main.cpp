// The program: argv to the Lua state or to the merge.
#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "engine/error/error.h"
#include "engine/parallel/host_allocator.h"
#include "engine/parallel/launch.h"
#include "engine/parallel/process_group.h"
#include "engine/train/interrupt.h"
#include "lua/bind/native.h"
#include "lua/boundary/error_value.h"
#include "lua/embed/embedded.h"
#include "lua/vm/searcher.h"
#include "lua/vm/vm.h"
#include "tools/cli/command_line.h"
#include "tools/cli/doctor_command.h"
#include "tools/cli/merge_command.h"
#include "tools/cli/version.h"

namespace ft {
namespace {

/// glibc hands blocks above 128 KiB back to the system at once; the page faults cost 15 to 20% of a CPU step.
void keep_big_blocks() {
  constexpr int kThreshold = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kThreshold);
  mallopt(M_TRIM_THRESHOLD, kThreshold);
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// True in a rank above 0 of a launcher. What is wrong with the environment is said where ranks meet.
bool another_speaks() try {
  const auto place = RankEnvironment::from_env();
  return place && place->rank > 0;
} catch (const Error&) {
  return false;
}

bool stop_wanted() { return interrupted() != 0; }

/// Prints the one message of a failure. Under the launcher it picks among the ranks; elsewhere they agree who speaks.
void tell(const Error& error) {
  const auto group = ProcessGroup::connected();
  const bool lost_another = error.kind() == ErrorKind::comm;
  if (under_launcher() || !group || group->may_speak(lost_another)) report_fatal(error);
  if (group && !lost_another) group->report_failure(error.what());
  if (group && !under_launcher()) group->leave();
}

int finish(const Outcome& outcome, bool trace) {
  if (trace && !outcome.trace.empty()) std::fprintf(stderr, "%s\n", outcome.trace.c_str());
  if (outcome.exit_code == 130) return interrupted() ? interrupt_exit_code(interrupted()) : 130;
  if (outcome.exit_code == 2) std::fprintf(stderr, "ftengine: %s\n", outcome.error.c_str());
  if (outcome.exit_code == 1 && !outcome.error.empty()) tell(Error(error_kind(outcome.kind), outcome.error));
  return outcome.exit_code;
}

LaunchOptions launch_options(const CommandLine& line) {
  return {.nproc = static_cast<int>(line.nproc),
          .max_restarts = static_cast<int>(line.max_restarts),
          .min_nproc = static_cast<int>(line.min_nproc),
          .nodes = {.count = static_cast<int>(line.nnodes),
                    .node = static_cast<int>(line.node_rank),
                    .host = line.master_addr,
                    .port = static_cast<int>(line.master_port),
                    .wait_seconds = static_cast<int>(line.node_wait)}};
}

int run_lua(const CommandLine& line, const std::vector<std::string>& arguments) {
  install_host_allocator();
  Host host{.command = line.command,
            .recipe = line.file,
            .flags = line.flags,
            .arguments = arguments,
            .nproc = under_launcher() ? 0 : line.nproc,  // which after a restart may be fewer
            .launch = launch_options(line),
            .resume = restart_directory().empty() ? line.resume : restart_directory(),
            .device_memory = line.device_memory,
            .host_memory = line.host_memory,
            .json = line.json,
            .quiet = under_launcher() || another_speaks(),
            .files = embedded_files()};
  watch_for_interrupts();
  Vm vm({.files = embedded_files(), .stdlib_on_disk = environment("FTENGINE_STDLIB"), .interrupted = stop_wanted});
  open_native(vm.state(), host);
  const std::string extension = std::filesystem::path(line.file).extension().string();
  const bool yaml = extension == ".yml" || extension == ".yaml";
  if (!line.file.empty() && !yaml && !line.json) return finish(vm.run_file(line.file, line.flags), line.trace);
  set_recipe_folder(vm.state(), std::filesystem::path(line.file).parent_path().string());
  const std::string module = line.json ? "check_json" : yaml ? "config" : line.command;
  return finish(vm.run_module("ft.commands." + module, line.flags), line.trace);
}

int run(const std::vector<std::string>& arguments) {
  const CommandLine line = read_command_line(arguments);
  if (!line.wrong.empty()) {
    std::fprintf(stderr, "ftengine: %s\n", line.wrong.c_str());
    return 2;
  }
  if (line.command == "--help") return std::fputs(help_text().c_str(), stdout), 0;
  if (line.command == "--version") return std::fputs(version_text().c_str(), stdout), 0;
  if (line.command == "merge") return merge_command(line.flags);
  if (line.command == "doctor") return doctor_command(arguments, launch_options(line));
  return run_lua(line, arguments);
}

}  // namespace
}  // namespace ft

int main(int argc, char** argv) {
  ft::keep_big_blocks();
  try {
    return ft::run({argv, argv + argc});
  } catch (const std::exception& exception) {
    ft::report_fatal(ft::to_error(exception));
    return 1;
  }
}
