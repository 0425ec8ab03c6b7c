#pragma once
/// A model's chat template: the Jinja of its tokenizer_config.json or chat_template.jinja, rendered as transformers
/// renders it, byte for byte, in a sandbox: nothing but the row's data can be reached, and steps, text and nesting are
/// bounded. Built by plans, by `ftengine render` and `ftengine generate`. Thread rule: const calls may come from many
/// threads at once. No collective.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

/// Bytes [begin, end) of a rendered text.
struct TextRange {
  size_t begin, end;
  bool operator==(const TextRange&) const = default;
};
/// Bytes that were printed while the template walked over message `message`; -1 for what belongs to none.
struct MessagePiece {
  int message;
  size_t begin, end;
};

/// What a rendering raised, by the name of Python's class: "UndefinedError", "TypeError", "TemplateError" (a template's
/// own raise_exception), …
struct TemplateError {
  std::string type, message;
  int line = 0;  ///< of the template
};

struct Rendered {
  std::string text;
  /// {% generation %} blocks, where transformers counts them.
  std::vector<TextRange> generations;
  bool generations_exact = true;  ///< false: a block's text does not stand where it was counted
  std::vector<MessagePiece> pieces;
  std::optional<TemplateError> error;  ///< text is empty then
};

struct RenderLimits {
  int64_t steps = 50'000'000;
  int64_t bytes = int64_t{4} << 30;  ///< of text made on the way, all together
};

class ChatTemplate {
 public:
  /// A template that jinja2 would refuse is kept with its fault, which each rendering then has.
  ChatTemplate(std::string_view source, std::string file, Value::Map special_tokens = {});
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;

  /// The template that transformers would take of a model's directory: chat_template.jinja, else `chat_template` of
  /// tokenizer_config.json. Nullptr where there is none.
  /// @param path the directory, or a Jinja file (the special tokens are then those beside it)
  /// @param name one of several named templates; "" for "tool_use" where tools are given, else "default"
  /// @throws Error(io), Error(format)
  static std::shared_ptr<const ChatTemplate> load(const std::filesystem::path& path, const std::string& name = "");

  /// @param row messages, and tools, documents, add_generation_prompt and whatever else the template may read; `now`
  /// ("2024-07-26 12:34:56") sets the clock of strftime_now and is not passed on
  Rendered render(const Value& row, const RenderLimits& limits = {}) const;

  const std::string& file() const;
  /// Why it cannot be rendered at all.
  const std::optional<TemplateError>& fault() const;
  bool has_generation_blocks() const;        ///< {% generation %} stands in it
  bool reads(std::string_view name) const;   ///< the name stands in it as a variable, an attribute or a key
  const Value::Map& special_tokens() const;  ///< bos_token and the rest, as variables

 private:
  static std::shared_ptr<ChatTemplate> of_name(const std::filesystem::path& dir, const Value& config,
                                               const Value::Map& tokens, const std::string& name,
                                               bool optional = false);
  struct State;
  std::unique_ptr<State> state_;
};

/// {"text": …}, or {"error": …, "message": …} for a row that fails: what `ftengine render` prints.
std::string render_line(const Rendered& rendered);

}  // namespace ft
