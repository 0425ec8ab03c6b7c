#include "engine/data/row_fields.h"

#include <algorithm>

#include "engine/error/error.h"

namespace ft {
namespace {

[[noreturn]] void refuse(const Value& row, const std::string& message, const std::string& help = "") {
  Error error(ErrorKind::format, message);
  error.at(row.origin.str());
  if (!help.empty()) error.help(help);
  throw error;
}

std::string keys_of(const Value& map) {
  std::string keys;
  if (map.is_map())
    for (const auto& [key, value] : map.as_map()) keys += (keys.empty() ? "" : ", ") + key;
  return keys.empty() ? "none" : keys;
}

const Value& field_of(const Value& row, const Value& holder, const std::string& name) {
  if (const Value* value = holder.find(name)) return *value;
  refuse(row, "no field '" + name + "'; there are: " + keys_of(holder));
}

/// A field as text; a number as it is written.
std::string text_of(const Value& row, const Value& value, const std::string& name) {
  if (value.is_string()) return value.as_string();
  if (value.is_null()) return "";
  if (value.is_number() || value.is_bool()) return describe(value);
  refuse(row, "'" + name + "' is " + describe(value) + ", want text");
}

/// The first of `known` that the row has.
std::string first_of(const Value& row, const std::string& told, std::initializer_list<const char*> known) {
  if (!told.empty()) return told;
  for (const char* name : known)
    if (row.find(name)) return name;
  return *known.begin();
}

std::string optional_text(const Value& row, const std::string& name) {
  const Value* value = row.find(name);
  return value ? text_of(row, *value, name) : "";
}

/// Fills {fields} of a format in.
std::string filled(const std::string& format, const Value& row, const std::map<std::string, std::string>& known) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    if ((c == '{' || c == '}') && i + 1 < format.size() && format[i + 1] == c) {
      out += c;
      ++i;
    } else if (c == '{') {
      const size_t end = format.find('}', i);
      if (end == std::string::npos)
        throw Error(ErrorKind::config, "'" + format + "' has a { that is not closed")
            .key("format")
            .help("write {{ for a brace");
      const std::string name = format.substr(i + 1, end - i - 1);
      const auto it = known.find(name);
      out += it != known.end() ? it->second : text_of(row, field_of(row, row, name), name);
      i = end;
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

FieldNames field_names(const Value& split) {
  FieldNames names;
  const auto read = [&](const char* key, std::string& to) { to = split.get(key, ""); };
  read("field_messages", names.messages);
  read("message_field_role", names.role);
  read("message_field_content", names.content);
  read("message_field_training", names.training);
  read("field_tools", names.tools);
  read("field_instruction", names.instruction);
  read("field_input", names.input);
  read("field_output", names.output);
  read("field_system", names.system);
  read("no_input_format", names.no_input_format);
  read("system_prompt", names.system_prompt);
  if (split.get("kind", "") == "alpaca") read("format", names.format);
  if (const Value* roles = split.find("roles"); roles && roles->is_map())
    for (const auto& [role, theirs] : roles->as_map()) {
      if (!theirs.is_list())
        throw Error(ErrorKind::config, "got " + describe(theirs) + ", want a list of names")
            .key("roles." + role)
            .help("roles = { user = { \"human\" }, assistant = { \"gpt\" } }");
      for (const Value& name : theirs.as_list()) names.roles[name.as_string()] = role;
    }
  return names;
}

Value with_known_names(const Value& row, const FieldNames& names) {
  const bool told = !(names.messages.empty() && names.role.empty() && names.content.empty() && names.training.empty() &&
                      names.roles.empty() && names.tools.empty());
  if (!told) return row;
  const std::string list = first_of(row, names.messages, {"messages", "conversations", "conversation"});
  const Value& turns = field_of(row, row, list);
  if (!turns.is_list()) refuse(row, "'" + list + "' is " + describe(turns) + ", want a list of messages");
  Value::List messages;
  for (const Value& turn : turns.as_list()) {
    if (!turn.is_map()) refuse(row, "a message is " + describe(turn) + ", want an object");
    const std::string role_key = first_of(turn, names.role, {"role", "from"});
    const std::string content_key = first_of(turn, names.content, {"content", "value"});
    std::string role = text_of(row, field_of(row, turn, role_key), role_key);
    if (const auto known = names.roles.find(role); known != names.roles.end()) role = known->second;
    Value message = Value::map({{"role", std::move(role)}});
    const Value* content = turn.find(content_key);
    if (!content && !turn.find("tool_calls")) field_of(row, turn, content_key);
    if (content) message.set("content", *content);
    for (const auto& [key, value] : turn.as_map())
      if (key != role_key && key != content_key)
        message.set(!names.training.empty() && key == names.training ? "train" : key, value);
    messages.push_back(std::move(message));
  }
  Value out = Value::map();
  for (const auto& [key, value] : row.as_map())
    if (key != list) out.set(key == names.tools && !key.empty() ? "tools" : key, value);
  out.set("messages", Value(std::move(messages)));
  out.origin = row.origin;
  return out;
}

std::vector<Segment> instruction_segments(const Value& row, const FieldNames& names) {
  const std::string instruction = first_of(row, names.instruction, {"instruction", "question", "query", "prompt"});
  const std::string output = first_of(row, names.output, {"output", "answer", "response", "completion"});
  std::string system = optional_text(row, names.system.empty() ? "system" : names.system);
  if (system.empty()) system = names.system_prompt;
  Value plain = Value::map({{"instruction", text_of(row, field_of(row, row, instruction), instruction)},
                            {"input", optional_text(row, names.input.empty() ? "input" : names.input)},
                            {"system", system},
                            {"output", text_of(row, field_of(row, row, output), output)}});
  plain.origin = row.origin;
  if (names.format.empty() && names.no_input_format.empty()) return alpaca_segments(plain);
  std::map<std::string, std::string> known;
  for (const auto& [key, value] : plain.as_map())
    if (key != "output") known[key] = value.as_string();
  const bool has_input = !known["input"].empty();
  const std::string& format =
      (has_input || names.no_input_format.empty()) && !names.format.empty() ? names.format : names.no_input_format;
  std::string prompt = filled(format, row, known), answer = plain.at("output").as_string();
  // A blank at the end is one token with the answer's first word, which shall be learned.
  while (prompt.ends_with(' ')) {
    prompt.pop_back();
    answer.insert(0, 1, ' ');
  }
  return {{std::move(prompt), false}, {std::move(answer), true}};
}

std::vector<Segment> stated_segments(const Value& row) {
  const Value& list = field_of(row, row, "segments");
  if (!list.is_list() || list.as_list().empty())
    refuse(row, "'segments' is " + describe(list) + ", want a list of {label, text}");
  std::vector<Segment> out;
  for (const Value& piece : list.as_list()) {
    const Value* label = piece.find("label");
    const Value* text = piece.find("text");
    if (!label || !label->is_bool() || !text || !text->is_string())
      refuse(row, "a segment is " + describe(piece) + ", want {\"label\": true or false, \"text\": \"…\"}");
    out.push_back({text->as_string(), label->as_bool()});
  }
  return out;
}

}  // namespace ft
