#include "engine/device/control_group.h"

#include <fstream>
#include <iterator>

namespace ft {

std::optional<std::string> control_group_file(const std::string& controller, const std::string& second,
                                              const std::string& first, const std::filesystem::path& system) {
  std::ifstream groups(system / "proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {  // "0::/path", or "7:cpu,cpuacct:/path"
    const size_t names_at = line.find(':') + 1, path_at = line.rfind(':') + 1;
    if (names_at == 0 || path_at < names_at) continue;
    const std::string names = "," + line.substr(names_at, path_at - 1 - names_at) + ",";
    const bool unified = names == ",,";
    if (!unified && names.find("," + controller + ",") == std::string::npos) continue;
    const std::string& name = unified ? second : first;
    if (name.empty()) continue;  // this version has no such file; a folder would open as one
    // In a container the path may be seen from outside, and the group itself is mounted at the root.
    const std::string base = (system / "sys/fs/cgroup" / (unified ? "" : controller)).string();
    for (const std::string& folder : {base + line.substr(path_at), base}) {
      std::ifstream file(folder + "/" + name);
      if (file) return std::string(std::istreambuf_iterator<char>(file), {});
    }
  }
  return std::nullopt;
}

}  // namespace ft
