#include "engine/device/control_group.h"

#include <fstream>
#include <iterator>

namespace ft {

std::optional<std::string> control_group_file(const std::string& controller, const std::string& second,
                                              const std::string& first) {
  std::ifstream groups("/proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {  // "0::/path", or "7:cpu,cpuacct:/path"
    const size_t names_at = line.find(':') + 1, path_at = line.rfind(':') + 1;
    if (names_at == 0 || path_at < names_at) continue;
    const std::string names = "," + line.substr(names_at, path_at - 1 - names_at) + ",";
    const bool unified = names == ",,";
    if (!unified && names.find("," + controller + ",") == std::string::npos) continue;
    // In a container the path may be seen from outside, and the group itself is mounted at the root.
    const std::string base = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controller;
    for (const std::string& folder : {base + line.substr(path_at), base}) {
      std::ifstream file(folder + "/" + (unified ? second : first));
      if (file) return std::string(std::istreambuf_iterator<char>(file), {});
    }
  }
  return std::nullopt;
}

}  // namespace ft
