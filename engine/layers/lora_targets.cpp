#include "engine/layers/lora_targets.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr const char* kKey = "adapter.target_modules";
constexpr const char* kHelp =
    "write \"all-linear\", a regular expression for the whole module path, or a list of names such as { \"q_proj\", "
    "\"v_proj\" }";

bool ends_in_module(const std::string& path, const std::string& name) {
  return path == name ||
         (path.size() > name.size() && path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
}

}  // namespace

struct LoraTargets::Pattern {
  pcre2_code* code = nullptr;
  explicit Pattern(const std::string& text) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                         PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &error, &offset, nullptr);
    if (code) return;
    unsigned char message[256] = {};
    pcre2_get_error_message(error, message, sizeof message);
    throw Error(ErrorKind::config, "got pattern '" + text + "': " + reinterpret_cast<char*>(message) +
                                       " at character " + std::to_string(offset + 1))
        .key(kKey)
        .help(kHelp);
  }
  Pattern(const Pattern&) = delete;
  ~Pattern() { pcre2_code_free(code); }
  bool match(const std::string& path) const {
    pcre2_match_data* data = pcre2_match_data_create_from_pattern(code, nullptr);
    const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(path.data()), path.size(), 0, 0, data, nullptr);
    pcre2_match_data_free(data);
    return found >= 0;
  }
};

LoraTargets::LoraTargets(const Value& target_modules) : wanted_(target_modules) {
  if (wanted_.is_string()) {
    if (wanted_.as_string() != "all-linear") pattern_ = std::make_unique<Pattern>(wanted_.as_string());
    return;
  }
  bool names = wanted_.is_list() && !wanted_.as_list().empty();
  if (names)
    for (const Value& name : wanted_.as_list()) names = names && name.is_string();
  if (!names)
    throw Error(ErrorKind::config, "got " + describe(wanted_) + ", want a string or a list of names")
        .key(kKey)
        .help(kHelp);
}

LoraTargets::~LoraTargets() = default;

bool LoraTargets::match(const std::string& module_path, bool in_layers) const {
  if (wanted_.is_list()) {
    for (const Value& name : wanted_.as_list())
      if (ends_in_module(module_path, name.as_string())) return true;
    return false;
  }
  return pattern_ ? pattern_->match(module_path) : in_layers;
}

}  // namespace ft
