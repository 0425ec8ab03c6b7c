#pragma once
/// ZIP archives whose members are stored as they are (PKWARE APPNOTE.TXT, 4.3; ZIP64 too), as torch.save writes them: a
/// table of names and byte ranges. An archive may lie in the middle of a file, as those of a .distcp do. Read by
/// torch_file; pure, safe from any thread.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/formats/file.h"

namespace ft {

struct ZipMember {
  std::string name;
  uint64_t offset = 0;  ///< of its first byte in the file
  uint64_t size = 0;
};

/// The members of the archive that fills [begin, begin + size) of a file, in the order of the central directory.
/// @throws Error(format) for what is no archive, truncated, compressed or encrypted, ranges outside it, a name twice.
std::vector<ZipMember> read_zip(const InputFile& file, uint64_t begin, uint64_t size);

/// Whether an archive seems to begin here: by its first four bytes.
bool looks_like_zip(const InputFile& file, uint64_t begin);

}  // namespace ft
