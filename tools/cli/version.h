#pragma once
/// What `ftengine --version` prints: what a bug report needs.

#include <string>

namespace ft {

std::string version_text();

}  // namespace ft
