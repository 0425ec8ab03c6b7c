#pragma once
/// YAML text to Value, each value with the file and line it stands on, so that messages about profiles and configs
/// blame the user's own text. Pure functions, safe from any thread.

#include <filesystem>
#include <string>
#include <string_view>

#include "engine/schema/value.h"

namespace ft {

/// Reads one document. Plain scalars follow YAML 1.2's core schema: true/false, null/~, integers (decimal, 0o, 0x),
/// numbers (2e-4 is a number, .inf, .nan); `yes`, `on` and quoted scalars are strings. Aliases are expanded. An empty
/// text is null.
/// @param name the file's name in messages and origins.
/// @throws Error(format) at name:line for text that is not YAML, a key that stands twice or is no string, tags, merge
/// keys (`<<`), more than one document, aliases that loop or grow past a million values, NUL bytes, or more than 4 MiB.
Value parse_yaml(std::string_view text, const std::string& name);

/// Reads a file.   @throws Error(io) when it cannot be read, Error(format) as parse_yaml.
Value read_yaml(const std::filesystem::path& path);

}  // namespace ft
