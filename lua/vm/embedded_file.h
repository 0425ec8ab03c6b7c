#pragma once
/// A file that the build put into the program: "ft/plan.lua", "profiles/fsdp2.yaml". Made by lua/embed, read by the
/// VM's searcher and by profiles. The bytes live as long as the program.

#include <span>
#include <string_view>

namespace ft {

struct EmbeddedFile {
  std::string_view name;
  std::string_view bytes;
};

/// Sorted by name.
using EmbeddedFiles = std::span<const EmbeddedFile>;

/// The file's bytes, or nullptr.
inline const EmbeddedFile* find_file(EmbeddedFiles files, std::string_view name) {
  for (const EmbeddedFile& file : files)
    if (file.name == name) return &file;
  return nullptr;
}

}  // namespace ft
