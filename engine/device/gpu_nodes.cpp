#include "engine/device/gpu_nodes.h"

#include <charconv>
#include <cstdlib>
#include <sstream>
#include <string>

namespace ft {
namespace {

int gpu_nodes(const std::filesystem::path& dev) {
  constexpr std::string_view kPrefix = "nvidia";
  int count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(dev, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    count += name.size() > kPrefix.size() && name.starts_with(kPrefix) &&
             name.find_first_not_of("0123456789", kPrefix.size()) == std::string::npos;
  }
  return count > 0 ? count : static_cast<int>(std::filesystem::exists(dev / "dxg", error));
}

}  // namespace

int visible_gpus() { return visible_gpus("/dev", std::getenv("CUDA_VISIBLE_DEVICES")); }

int visible_gpus(const std::filesystem::path& dev, const char* cuda_visible_devices) {
  const int nodes = gpu_nodes(dev);
  if (nodes == 0 || !cuda_visible_devices) return nodes;
  int count = 0;
  std::istringstream list(cuda_visible_devices);
  for (std::string word; std::getline(list, word, ',');) {
    word.erase(0, word.find_first_not_of(' '));
    word.erase(word.find_last_not_of(' ') + 1);
    int index = -1;
    const auto read = std::from_chars(word.data(), word.data() + word.size(), index);
    const bool number = read.ec == std::errc() && read.ptr == word.data() + word.size();
    const bool named = word.starts_with("GPU-") || word.starts_with("MIG-");
    if (number ? index < 0 || index >= nodes : !named) break;
    ++count;
  }
  return count;
}

}  // namespace ft
