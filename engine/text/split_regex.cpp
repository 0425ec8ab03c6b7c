#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/text/split_regex.h"

#include <pcre2.h>

#include "engine/error/error.h"

namespace ft {
namespace {

struct Free {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
};

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

/// Memory that one thread's matching needs.
struct Scratch {
  std::unique_ptr<pcre2_match_data, Free> match{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, Free> context{pcre2_match_context_create(nullptr)};
  std::unique_ptr<pcre2_jit_stack, Free> stack;

  Scratch() {
    constexpr size_t kStackStart = 32 << 10,
                     kStackMost = 8 << 20;  // nested groups over long runs need more than the default
    stack.reset(pcre2_jit_stack_create(kStackStart, kStackMost, nullptr));
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

}  // namespace

struct SplitRegex::Code {
  std::unique_ptr<pcre2_code, Free> code;
  bool jit = false;
};

SplitRegex::SplitRegex(const std::string& translated) : code_(std::make_unique<Code>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_compile_context, Free> context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);  // as Oniguruma's '.'
  code_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                  PCRE2_UTF | PCRE2_UCP, &error, &offset, context.get()));
  if (!code_->code) throw Error(ErrorKind::format, "PCRE2 refuses the regex: " + message_of(error));
  code_->jit = pcre2_jit_compile(code_->code.get(), PCRE2_JIT_COMPLETE) == 0;
}

SplitRegex::~SplitRegex() = default;
SplitRegex::SplitRegex(SplitRegex&&) noexcept = default;
SplitRegex& SplitRegex::operator=(SplitRegex&&) noexcept = default;

std::optional<SplitRegex::Match> SplitRegex::find(std::string_view text, size_t from) const {
  thread_local Scratch s;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const int found = code_->jit ? pcre2_jit_match(code_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                                                 s.match.get(), s.context.get())
                               : pcre2_match(code_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                                             s.match.get(), s.context.get());
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) throw Error(ErrorKind::format, "the pre-tokenizer's regex gave up on this text: " + message_of(found));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(s.match.get());
  return Match{ends[0], ends[1]};
}

}  // namespace ft
