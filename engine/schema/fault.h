#pragma once
/// What is wrong with what the user wrote: several faults are gathered and printed together, in the order of their
/// lines. Made by check() and by the rules of stdlib/ft/rules; printed by the command line. No thread rules.

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

struct Fault {
  bool warning = false;  ///< said once and read on; the others end the run
  Origin origin;         ///< the text to blame
  std::string path;      ///< "parallel.offload_params", "ft.lora"
  std::string message;   ///< got and wanted
  std::string help;
  std::string rule;  ///< "fsdp2.pin_memory_needs_offload"; empty for a schema's own checks
};

/// Returns a line of a user's file (1-based), or nothing when it cannot be read.
using SourceLine = std::function<std::optional<std::string>(const std::string& file, int line)>;

/// Reads the line from the disk.
std::optional<std::string> line_of_file(const std::string& file, int line);

/// One fault: "where: path: message", the line it blames, "rule: … help: …".
std::string render(const Fault& fault, const SourceLine& source = line_of_file);

/// All of them, sorted by file and line, a blank line between two; the same warning about the same key only once.
std::string render(std::vector<Fault> faults, const SourceLine& source = line_of_file);

/// { rule, key, where, message, help }, as `check --json` prints it; parts that are not known are left out.
Value as_value(const Fault& fault);

/// Edits between two words: insertion, removal, replacement and the exchange of two neighbours cost 1 each
/// (optimal string alignment).
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate closest to a misspelt word, when it is at most max(1, length / 3) edits away; "" otherwise.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// "a, b, c, …": as many names as fit into `columns`.
std::string enumerate(const std::vector<std::string>& names, size_t columns = 100);

}  // namespace ft
