#include "engine/formats/module_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "engine/error/error.h"

namespace ft {

struct ModulePattern::Code {
  pcre2_code* compiled = nullptr;
  explicit Code(pcre2_code* code) : compiled(code) {}
  Code(const Code&) = delete;
  ~Code() { pcre2_code_free(compiled); }
};

ModulePattern::ModulePattern(const std::string& text, Ends ends, const std::string& key) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  const uint32_t options = PCRE2_ANCHORED | PCRE2_UTF | (ends == Ends::at_end ? PCRE2_ENDANCHORED : 0);
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), options, &error, &offset, nullptr);
  if (!code) {
    unsigned char message[256] = {};
    pcre2_get_error_message(error, message, sizeof message);
    throw Error(ErrorKind::config, "got pattern '" + text + "': " + reinterpret_cast<char*>(message) +
                                       " at character " + std::to_string(offset + 1))
        .key(key);
  }
  code_ = std::make_unique<Code>(code);
}

ModulePattern::~ModulePattern() = default;
ModulePattern::ModulePattern(ModulePattern&& other) noexcept = default;
ModulePattern& ModulePattern::operator=(ModulePattern&& other) noexcept = default;

bool ModulePattern::match(const std::string& path) const {
  pcre2_match_data* data = pcre2_match_data_create_from_pattern(code_->compiled, nullptr);
  const int found =
      pcre2_match(code_->compiled, reinterpret_cast<PCRE2_SPTR>(path.data()), path.size(), 0, 0, data, nullptr);
  pcre2_match_data_free(data);
  return found >= 0;
}

}  // namespace ft
