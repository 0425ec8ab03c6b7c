#include "engine/optim/parameter_groups.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "engine/error/error.h"
#include "engine/schema/fault.h"

namespace ft {
namespace {

using Code = std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)>;

struct Group {
  std::string path;  // "optimizer.groups[1]"
  std::string pattern;
  Code code{nullptr, pcre2_code_free};
  std::optional<double> lr, lr_scale, weight_decay;
  bool used = false;
};

[[noreturn]] void refuse(const Value& value, const std::string& path, const std::string& message,
                         const std::string& help = {}) {
  Error error(ErrorKind::config, message);
  error.key(path);
  if (value.origin.line) error.at(value.origin.str());
  if (!help.empty()) error.help(help);
  throw error;
}

Code compiled(const Value& value, const std::string& path) {
  const std::string& text = value.as_string();
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), PCRE2_UTF, &error, &offset, nullptr),
            pcre2_code_free);
  if (code) return code;
  unsigned char message[256] = {};
  pcre2_get_error_message(error, message, sizeof message);
  refuse(value, path + ".pattern",
         "got '" + text + "': " + reinterpret_cast<char*>(message) + " at character " + std::to_string(offset + 1),
         "write a regular expression that is found in the parameters' names: \"lora_B\", "
         "\"^model\\\\.layers\\\\.0\\\\.\"");
}

std::optional<double> number(const Value& group, const char* key, const std::string& path, bool zero) {
  const Value* value = group.find(key);
  if (!value || value->is_null()) return std::nullopt;
  const bool fits = value->is_number() && std::isfinite(value->as_number()) &&
                    (zero ? value->as_number() >= 0 : value->as_number() > 0);
  if (!fits) refuse_option(group, key, zero ? "0 or more" : "more than 0", path);
  return value->as_number();
}

void check_keys(const Value& group, const std::string& path) {
  static const std::vector<std::string> kKeys{"lr", "lr_scale", "pattern", "weight_decay"};
  if (!group.is_map()) refuse(group, path, "got " + describe(group) + ", want { pattern = \"…\", lr = … }");
  for (const auto& [key, value] : group.as_map()) {
    if (std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end()) continue;
    const std::string near = nearest(key, kKeys);
    refuse(value.origin.line ? value : group, path, "unknown key '" + key + "'",
           (near.empty() ? "" : "did you mean '" + near + "'?  ") + ("keys: " + enumerate(kKeys)));
  }
  const Value* pattern = group.find("pattern");
  if (!pattern || !pattern->is_string() || pattern->as_string().empty())
    refuse_option(group, "pattern", "a regular expression", path);
}

std::vector<Group> read_groups(const Value& description) {
  std::vector<Group> groups;
  const Value* list = description.find("groups");
  if (!list || list->is_null() || (list->is_map() && list->as_map().empty())) return groups;
  if (!list->is_list()) refuse_option(description, "groups", "a list: { { pattern = \"lora_B\", lr = 1e-3 } }");
  for (const Value& item : list->as_list()) {
    Group group;
    group.path = "optimizer.groups[" + std::to_string(groups.size() + 1) + "]";
    check_keys(item, group.path);
    group.pattern = item.find("pattern")->as_string();
    group.code = compiled(*item.find("pattern"), group.path);
    group.lr = number(item, "lr", group.path, /*zero=*/true);
    group.lr_scale = number(item, "lr_scale", group.path, /*zero=*/true);
    group.weight_decay = number(item, "weight_decay", group.path, /*zero=*/true);
    if (group.lr && group.lr_scale)
      refuse(item, group.path, "got lr and lr_scale", "keep one: lr_scale is times optimizer.lr");
    groups.push_back(std::move(group));
  }
  return groups;
}

bool found(const Group& group, const std::string& name) {
  using Match = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;
  const Match match(pcre2_match_data_create_from_pattern(group.code.get(), nullptr), pcre2_match_data_free);
  return pcre2_match(group.code.get(), reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0, match.get(),
                     nullptr) >= 0;
}

/// The first group for a name, or null.
Group* group_of(std::vector<Group>& groups, const std::string& name) {
  for (Group& group : groups) {
    if (!found(group, name)) continue;
    group.used = true;
    return &group;
  }
  return nullptr;
}

/// The names' last parts, and whole names, that a pattern may have been meant for.
std::string near_names(const std::string& pattern, const std::vector<std::string>& names) {
  std::vector<std::string> parts;
  for (const std::string& name : names)
    for (size_t begin = 0; begin < name.size();) {
      const size_t end = std::min(name.find('.', begin), name.size());
      parts.push_back(name.substr(begin, end - begin));
      begin = end + 1;
    }
  std::sort(parts.begin(), parts.end());
  parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
  const std::string near = nearest(pattern, parts);
  const std::string example = names.empty() ? "" : "; a trained parameter: " + names.front();
  return (near.empty() ? "names of trained parameters are searched" : "did you mean '" + near + "'?") + example;
}

void check_used(const Value& description, std::vector<Group>& groups, const std::vector<std::string>& names) {
  for (size_t i = 0; i < groups.size(); ++i) {
    Group& group = groups[i];
    if (group.used) continue;
    const Value& item = description.find("groups")->as_list()[i];
    const bool behind = std::any_of(names.begin(), names.end(), [&](const auto& name) { return found(group, name); });
    refuse(item.find("pattern")->origin.line ? *item.find("pattern") : item, group.path + ".pattern",
           "got '" + group.pattern +
               (behind ? "': groups before it take all that it is found in"
                       : "', which is found in no trained parameter's name"),
           behind ? "the first group that fits a parameter holds: put this one before them"
                  : near_names(group.pattern, names));
  }
}

}  // namespace

void apply_groups(const Value& description, const OptimizerOptions& options, std::vector<OptimizerPiece>& pieces) {
  std::vector<Group> groups = read_groups(description);
  std::vector<std::string> names;
  for (OptimizerPiece& piece : pieces) {
    names.push_back(piece.name);
    piece.weight_decay = piece.decay ? options.weight_decay : 0;
    const Group* group = group_of(groups, piece.name);
    if (!group) continue;
    if (group->weight_decay) piece.weight_decay = *group->weight_decay;
    if (group->lr_scale) piece.lr_scale *= *group->lr_scale;
    if (!group->lr) continue;
    if (!(options.lr > 0)) refuse_option(description, "lr", "more than 0, since a group states its own");
    piece.lr_scale = *group->lr / options.lr;
  }
  check_used(description, groups, names);
}

void check_groups(const Value& description, const std::vector<std::string>& names) {
  std::vector<Group> groups = read_groups(description);
  for (const std::string& name : names) group_of(groups, name);
  check_used(description, groups, names);
}

}  // namespace ft
