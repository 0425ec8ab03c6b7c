#pragma once
/// The files that the build put into the program: stdlib/ft under "ft/", configs/profiles under "profiles/",
/// configs/deepspeed_configs under that name. The build step (embed.cmake) writes their bytes unaltered, sorted by
/// name, so that two builds are equal.

#include "lua/vm/embedded_file.h"

namespace ft {

EmbeddedFiles embedded_files();

}  // namespace ft
