#include "engine/template/chat_template.h"

#include <algorithm>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/template/evaluator.h"
#include "engine/template/syntax.h"
#include "engine/text/unicode.h"

namespace ft {

using jinja::Datum;
using jinja::Fault;
using jinja::Kind;
using jinja::Node;

namespace {

Datum to_datum(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::null:
      return Datum::none();
    case Value::Kind::boolean:
      return Datum::boolean(value.as_bool());
    case Value::Kind::integer:
      return Datum::integer(value.as_integer());
    case Value::Kind::number:
      return Datum::number(value.as_number());
    case Value::Kind::string:
      return Datum::string(value.as_string());
    case Value::Kind::list: {
      std::vector<Datum> items;
      for (const Value& item : value.as_list()) items.push_back(to_datum(item));
      return Datum::list(std::move(items));
    }
    case Value::Kind::map: {
      std::vector<std::pair<Datum, Datum>> items;
      for (const auto& [key, item] : value.as_map()) items.emplace_back(Datum::string(key), to_datum(item));
      return Datum::dict(std::move(items));
    }
  }
  return Datum::none();
}

bool any_generation(const std::vector<jinja::NodePtr>& nodes) {
  return std::any_of(nodes.begin(), nodes.end(), [](const jinja::NodePtr& node) {
    return node && (node->is == Node::Is::generation || any_generation(node->body) || any_generation(node->otherwise));
  });
}

/// What transformers refuses before it renders.
void check_row(const Value& row) {
  const Value* messages = row.find("messages");
  if (!messages) jinja::type_error("a row has no 'messages'");
  if (!messages->is_list()) jinja::type_error("'messages' should be a list");
  for (const Value& message : messages->as_list())
    if (!message.is_map())
      jinja::type_error("Chat messages should be dicts, dataclasses or pydantic models, but got " +
                        jinja::to_repr(to_datum(message)) + ".");
  if (const Value* tools = row.find("tools"); tools && !tools->is_null()) {
    if (!tools->is_list()) jinja::type_error("'tools' should be a list");
    for (const Value& tool : tools->as_list())
      if (!tool.is_map())
        jinja::raise("ValueError",
                     "Tools should either be a JSON schema, or a callable function with type hints and a docstring "
                     "suitable for auto-conversion to a schema.");
  }
  if (const Value* documents = row.find("documents"); documents && !documents->is_null()) {
    if (!documents->is_list()) jinja::type_error("'documents' should be a list");
    for (const Value& document : documents->as_list())
      if (!document.is_map()) jinja::type_error("Documents should be a list of dicts with 'title' and 'text' keys!");
  }
  if (const Value* more = row.find("continue_final_message");
      more && !(more->is_null() || (more->is_bool() && !more->as_bool())))
    jinja::raise("NotImplementedError", "continue_final_message is not supported by this engine");
}

}  // namespace

struct ChatTemplate::State {
  std::string source, file;
  Value::Map special_tokens;
  std::vector<jinja::NodePtr> body;
  std::optional<TemplateError> fault;
  bool has_generation_blocks = false;
  std::shared_ptr<const ChatTemplate> with_tools;  // "tool_use", for rows that bring tools
};

ChatTemplate::ChatTemplate(std::string_view source, std::string file, Value::Map special_tokens)
    : state_(std::make_unique<State>()) {
  state_->source = source;
  state_->file = std::move(file);
  state_->special_tokens = std::move(special_tokens);
  if (const size_t at = unicode::find_invalid(source); at != std::string_view::npos)
    throw Error(ErrorKind::format, "the chat template is not UTF-8 at byte " + std::to_string(at)).at(state_->file);
  try {
    state_->body = jinja::parse(source);
  } catch (const Fault& fault) {
    state_->fault = TemplateError{fault.type, fault.message, 0};
  }
  state_->has_generation_blocks = any_generation(state_->body);
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;

const std::string& ChatTemplate::file() const { return state_->file; }
const std::optional<TemplateError>& ChatTemplate::fault() const { return state_->fault; }
bool ChatTemplate::has_generation_blocks() const { return state_->has_generation_blocks; }
bool ChatTemplate::reads(std::string_view name) const { return state_->source.find(name) != std::string::npos; }
const Value::Map& ChatTemplate::special_tokens() const { return state_->special_tokens; }

Rendered ChatTemplate::render(const Value& row, const RenderLimits& limits) const {
  if (const Value* tools = row.find("tools"); state_->with_tools && tools && !tools->is_null())
    return state_->with_tools->render(row, limits);
  Rendered out;
  if (state_->fault) {
    out.error = state_->fault;
    return out;
  }
  jinja::Budget budget{limits.steps, limits.bytes};
  const jinja::BudgetScope scope(budget);
  int line = 0;
  try {
    check_row(row);
    std::vector<Datum> messages;
    for (const Value& message : row.at("messages").as_list()) messages.push_back(to_datum(message));
    std::vector<std::pair<std::string, Datum>> variables;
    for (const auto& [name, token] : state_->special_tokens) variables.emplace_back(name, to_datum(token));
    for (const char* name : {"tools", "documents"}) variables.emplace_back(name, Datum::none());
    variables.emplace_back("add_generation_prompt", Datum::boolean(false));
    for (const auto& [name, value] : row.as_map())
      if (name != "now") variables.emplace_back(name, name == "messages" ? Datum::list(messages) : to_datum(value));
    const Value* now = row.find("now");
    jinja::Evaluator evaluator(std::move(variables), messages, now && now->is_string() ? now->as_string() : "");
    try {
      evaluator.render(state_->body);
    } catch (const Fault&) {
      line = evaluator.line;
      throw;
    }
    out.text = std::move(evaluator.text);
    out.generations = std::move(evaluator.generations);
    out.pieces = std::move(evaluator.pieces);
    out.generations_exact = evaluator.generations_exact;
  } catch (const Fault& fault) {
    out.error = TemplateError{fault.type, fault.message, line};
  }
  return out;
}

namespace {

std::string token_text(const Value& token) {
  if (token.is_string()) return token.as_string();
  const Value* content = token.find("content");
  return content && content->is_string() ? content->as_string() : "";
}

Value::Map special_tokens_of(const Value& config) {
  Value::Map out;
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    if (const Value* token = config.find(name); token && !token->is_null()) out.emplace_back(name, token_text(*token));
  return out;
}

/// Picks one of several named templates: `name`, or "default"; nullptr for one that is missing without a `file` to
/// blame.
const Value* choose(const Value& templates, const std::string& name, const std::string& file) {
  const Value* fallback = nullptr;
  std::string names;
  for (const Value& entry : templates.as_list()) {
    const std::string known = entry.get("name", "");
    names += (names.empty() ? "" : ", ") + known;
    if (known == (name.empty() ? "default" : name)) fallback = &entry.at("template");
  }
  if (!fallback && !file.empty())
    throw Error(ErrorKind::config, "no chat template named '" + (name.empty() ? "default" : name) + "'")
        .at(file)
        .help("the model has: " + names);
  return fallback;
}

}  // namespace

std::shared_ptr<const ChatTemplate> ChatTemplate::load(const std::filesystem::path& path, const std::string& name) {
  const bool is_file = std::filesystem::is_regular_file(path);
  if (!is_file && !std::filesystem::is_directory(path))
    throw Error(ErrorKind::io, "no such directory")
        .at(path.string())
        .help("want a model's directory, or a .jinja file");
  const std::filesystem::path dir = is_file ? path.parent_path() : path;
  const std::filesystem::path config_file = dir / "tokenizer_config.json";
  JsonOptions options;
  options.origins = false;
  const Value config = std::filesystem::exists(config_file) ? read_json(config_file, options) : Value(Value::Map{});
  Value::Map tokens = special_tokens_of(config);
  if (const auto map_file = dir / "special_tokens_map.json"; std::filesystem::exists(map_file)) {
    for (auto& [key, token] : special_tokens_of(read_json(map_file, options))) {
      const bool known =
          std::any_of(tokens.begin(), tokens.end(), [&key = key](const auto& old) { return old.first == key; });
      if (!known && !config.find(key)) tokens.emplace_back(key, token);
    }
  }
  if (is_file) return std::make_shared<const ChatTemplate>(read_text(path), path.string(), std::move(tokens));
  auto made = of_name(dir, config, tokens, name);
  if (made && name.empty())
    if (auto with_tools = of_name(dir, config, tokens, "tool_use", true))
      made->state_->with_tools = std::move(with_tools);
  return made;
}

std::shared_ptr<ChatTemplate> ChatTemplate::of_name(const std::filesystem::path& dir, const Value& config,
                                                    const Value::Map& tokens, const std::string& name, bool optional) {
  const std::filesystem::path own = dir / "chat_template.jinja", config_file = dir / "tokenizer_config.json";
  const std::filesystem::path more = dir / "additional_chat_templates" / (name + ".jinja");
  const bool plain = name.empty() || name == "default";
  if (!plain && std::filesystem::exists(more))
    return std::make_shared<ChatTemplate>(read_text(more), more.string(), tokens);
  if (plain && std::filesystem::exists(own))
    return std::make_shared<ChatTemplate>(read_text(own), own.string(), tokens);
  const Value* found = config.find("chat_template");
  if (found && found->is_list() && !std::filesystem::exists(own))
    found = choose(*found, name, optional ? "" : config_file.string());
  else if (found && !plain)
    found = nullptr;
  if (found && !found->is_null())
    return std::make_shared<ChatTemplate>(found->as_string(), config_file.string(), tokens);
  if (plain || optional) return nullptr;
  throw Error(ErrorKind::config, "has no chat template named '" + name + "'").at(dir.string());
}

std::string render_line(const Rendered& rendered) {
  if (!rendered.error) return write_json(Value::map({{"text", rendered.text}}));
  return write_json(Value::map({{"error", rendered.error->type}, {"message", rendered.error->message}}));
}

}  // namespace ft
