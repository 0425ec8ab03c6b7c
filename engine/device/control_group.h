#pragma once
/// What the control group that this process is in allows: files of version 2 or 1, as the system mounts them. Limits of
/// groups above it are not looked for. Any thread.

#include <filesystem>
#include <optional>
#include <string>

namespace ft {

/// A file of this process's control group, whole; nothing where there is none.
/// @param controller "memory" or "cpu" (version 1's folders)
/// @param second, first the file's name in version 2 and in version 1
/// @param system where /proc and /sys are: elsewhere in tests
std::optional<std::string> control_group_file(const std::string& controller, const std::string& second,
                                              const std::string& first, const std::filesystem::path& system = "/");

}  // namespace ft
