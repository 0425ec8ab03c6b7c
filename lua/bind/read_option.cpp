// Options as Lua declares them.
#include <algorithm>

#include "engine/error/error.h"
#include "lua/bind/option_table.h"

namespace ft {
namespace {

struct NamedKind {
  const char* name;
  uint32_t kinds;
};
constexpr NamedKind kKinds[] = {{"integer", kInteger}, {"number", kNumber},   {"boolean", kBoolean},
                                {"string", kString},   {"path", kPath},       {"output", kString},
                                {"list", kList},       {"profile", kProfile}, {"table", kMap}};

}  // namespace

Option read_option(const std::string& key, const Value& declared) {
  const std::string kind = declared.get("kind", "");
  Option option{.key = key};
  std::vector<std::string> names;
  bool found = false;
  for (const NamedKind& known : kKinds) names.emplace_back(known.name);
  option.kinds = 0;
  for (size_t begin = 0; begin <= kind.size();) {
    const size_t end = std::min(kind.find(" or ", begin), kind.size());
    const auto* known = std::find_if(std::begin(kKinds), std::end(kKinds),
                                     [&](const NamedKind& k) { return kind.substr(begin, end - begin) == k.name; });
    found = known != std::end(kKinds);
    if (!found) break;
    option.kinds |= known->kinds;
    begin = end + 4;
  }
  if (!found)
    throw Error(ErrorKind::config, "got kind '" + kind + "', want one of " + enumerate(names))
        .key("ft.options." + key)
        .at(declared.origin.str());
  static const std::vector<std::string> kAttributes{"kind",     "default", "help",    "above",    "below",
                                                    "at_least", "at_most", "allowed", "required", "unless"};
  for (const auto& [name, value] : declared.as_map()) {
    if (std::find(kAttributes.begin(), kAttributes.end(), name) != kAttributes.end()) continue;
    const std::string near = nearest(name, kAttributes);
    throw Error(ErrorKind::config, "unknown key '" + name + "'")
        .key("ft.options." + key)
        .at(declared.origin.str())
        .help((near.empty() ? "" : "did you mean '" + near + "'?  ") + ("keys: " + enumerate(kAttributes)));
  }
  const auto limit = [&](const char* name) -> std::optional<double> {
    const Value* value = declared.find(name);
    return value ? std::optional<double>(value->as_number()) : std::nullopt;
  };
  option.above = limit("above"), option.below = limit("below");
  option.at_least = limit("at_least"), option.at_most = limit("at_most");
  option.doc = declared.get("help", "");
  option.required = declared.get("required", false);
  option.unless = declared.get("unless", "");
  if (const Value* value = declared.find("default")) option.fallback = *value;
  if (const Value* value = declared.find("allowed"))
    for (const Value& allowed : value->as_list()) option.allowed.push_back(allowed);
  if (option.kinds & kProfile) option.schemas = {"fsdp2"};
  return option;
}

}  // namespace ft
