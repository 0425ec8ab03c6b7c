#pragma once
/// How a fault of the system on a file is told. Thrown by whoever opens, maps, locks or writes files by system calls.

#include <filesystem>
#include <string>

#include "engine/error/error.h"

namespace ft {

/// Error(io) "WHAT: the system's words" at the path; of a full disk and of a pipe with what to do.   @param reason an
/// errno
Error file_error(const std::filesystem::path& path, const std::string& what, int reason);

}  // namespace ft
