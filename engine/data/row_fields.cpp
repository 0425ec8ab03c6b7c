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

/// A field that a row must have.
std::string required_text(const Value& row, const std::string& name) {
  const Value& value = field_of(row, row, name);
  if (value.is_null()) refuse(row, "'" + name + "' is null, want text");
  return text_of(row, value, name);
}

/// The first of `known` that the row has.
std::string first_of(const Value& row, const std::string& told, std::initializer_list<const char*> known) {
  if (!told.empty()) return told;
  for (const char* name : known)
    if (const Value* value = row.find(name); value && !value->is_null()) return name;
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
      if (key != role_key && key != content_key && !(value.is_null() && message.find(key)))
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
  Value plain = Value::map({{"instruction", required_text(row, instruction)},
                            {"input", optional_text(row, names.input.empty() ? "input" : names.input)},
                            {"system", system},
                            {"output", required_text(row, output)}});
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

PairNames pair_names(const Value& split) {
  PairNames names;
  const auto read = [&](const char* key, std::string& to) { to = split.get(key, ""); };
  read("field_prompt", names.prompt);
  read("field_chosen", names.chosen);
  read("field_rejected", names.rejected);
  read("field_system", names.system);
  read("prompt_format", names.prompt_format);
  read("no_system_format", names.no_system_format);
  read("chosen_format", names.chosen_format);
  read("rejected_format", names.rejected_format);
  names.as_messages = split.get("as_messages", false);
  names.within = split.get("prompt_within", false);
  names.messages = field_names(split);
  names.messages.system.clear();
  return names;
}

namespace {

bool is_turn(const Value& value) { return value.is_map() || value.is_list(); }

/// Messages of {role, content}: a text is a turn of `role`, a message alone a list of one.
Value turns_of(const Value& row, const Value& value, const char* role, const PairNames& names) {
  if (value.is_string()) return Value::list({Value::map({{"role", role}, {"content", value}})});
  Value conversation = Value::map({{"messages", value.is_map() ? Value::list({value}) : value}});
  conversation.origin = row.origin;
  return with_known_names(conversation, names.messages).at("messages");
}

/// The text of an answer, or of a prompt: of messages that of the last, or the first one.
std::string text_of_turns(const Value& row, const Value& value, const std::string& name, bool last,
                          const PairNames& names) {
  if (value.is_null()) refuse(row, "'" + name + "' is null, want text");
  if (!is_turn(value)) return text_of(row, value, name);
  const Value turns = turns_of(row, value, "", names);
  if (turns.as_list().empty()) refuse(row, "'" + name + "' has no message");
  const Value& turn = last ? turns.as_list().back() : turns.as_list().front();
  const std::string key = first_of(turn, "", {"content", "value"});
  return text_of(row, field_of(row, turn, key), key);
}

/// What a row calls prompt and answers; "" for a prompt that is within the answers.
PairNames found_in(const Value& row, PairNames names) {
  names.chosen = first_of(row, names.chosen, {"chosen", "chosen_response"});
  names.rejected = first_of(row, names.rejected, {"rejected", "rejected_response"});
  const bool formats = !(names.prompt_format.empty() && names.no_system_format.empty());
  names.prompt = formats ? first_of(row, names.prompt, {"prompt", "input", "question", "instruction"})
                         : first_of(row, names.prompt, {"prompt"});
  if (names.within) names.prompt.clear();
  if (names.system.empty()) names.system = "system";
  return names;
}

/// Prompt and answers by the data set's formats.
void fill_formats(const Value& row, const PairNames& names, Value& out) {
  const Value& chosen = field_of(row, row, names.chosen);
  const std::string& prompt = names.prompt.empty() ? names.chosen : names.prompt;
  std::map<std::string, std::string> known{
      {"prompt", text_of_turns(row, field_of(row, row, prompt), prompt, false, names)},
      {"system", optional_text(row, names.system)},
      {"chosen", text_of_turns(row, chosen, names.chosen, true, names)},
      {"rejected", text_of_turns(row, field_of(row, row, names.rejected), names.rejected, true, names)}};
  const bool without = known["system"].empty() && !names.no_system_format.empty();
  const std::string& format = without ? names.no_system_format : names.prompt_format;
  out.set("prompt", filled(format.empty() ? "{prompt}" : format, row, known));
  out.set("chosen", filled(names.chosen_format.empty() ? "{chosen}" : names.chosen_format, row, known));
  out.set("rejected", filled(names.rejected_format.empty() ? "{rejected}" : names.rejected_format, row, known));
}

/// The last turn of an answer alone, where a prompt stands apart.
Value last_turn(Value turns) {
  Value::List& list = turns.as_list();
  if (list.size() > 1) list.erase(list.begin(), list.end() - 1);
  return turns;
}

}  // namespace

Value with_known_pair(const Value& row, const PairNames& given) {
  if (row.find("prompt_ids")) return row;
  const PairNames names = found_in(row, given);
  Value out = Value::map();
  for (const auto& [key, value] : row.as_map())
    if (key != names.prompt && key != names.chosen && key != names.rejected && key != "prompt") out.set(key, value);
  out.origin = row.origin;
  const bool formats = !(names.prompt_format.empty() && names.no_system_format.empty() && names.chosen_format.empty() &&
                         names.rejected_format.empty());
  if (formats) {
    fill_formats(row, names, out);
    return out;
  }
  const Value* prompt = row.find(names.prompt);
  if (prompt && prompt->is_null()) prompt = nullptr;
  const Value &chosen = field_of(row, row, names.chosen), &rejected = field_of(row, row, names.rejected);
  const bool turns = names.as_messages || is_turn(chosen) || is_turn(rejected) || (prompt && is_turn(*prompt));
  if (prompt) out.set("prompt", turns ? turns_of(row, *prompt, "user", names) : *prompt);
  const auto answer = [&](const Value& value) {
    if (!turns) return value;
    Value made = turns_of(row, value, "assistant", names);
    return prompt && names.as_messages ? last_turn(std::move(made)) : made;
  };
  out.set("chosen", answer(chosen));
  out.set("rejected", answer(rejected));
  return out;
}

}  // namespace ft
