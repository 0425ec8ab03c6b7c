#pragma once
/// What tells one state of a model directory's weight files from another without reading them: for caches of what is
/// made of them. Not collective; any thread.

#include <filesystem>
#include <string>

#include "engine/schema/value.h"

namespace ft {

/// The weight files of a directory and its config.json, sorted: [{name, bytes, modified (ns), inode, header}]; header
/// is XXH3 of a safetensors file's header, or of the last 64 KiB of another (a .bin's table stands there).
/// @throws Error(io)
Value source_files(const std::filesystem::path& directory);

/// Whether two lists differ in times and inodes at most.
bool same_but_for_places(const Value& a, const Value& b);

/// XXH3 of each file, whole: reads them all. @param files as source_files gives them
Value content_checksums(const std::filesystem::path& directory, const Value& files);

}  // namespace ft
