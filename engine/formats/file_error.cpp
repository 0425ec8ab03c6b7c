#include "engine/formats/file_error.h"

#include <cerrno>
#include <cstring>

namespace ft {

Error file_error(const std::filesystem::path& path, const std::string& what, int reason) {
  Error error(ErrorKind::io, what + ": " + std::strerror(reason));
  error.at(path.string());
  if (reason == ENOSPC) error.help("free some disk space, or name a directory on another disk");
  if (reason == ESPIPE) error.help("it is a pipe, which is read once and forwards; write what it gives to a file");
  return error;
}

}  // namespace ft
