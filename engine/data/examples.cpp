#include "engine/data/examples.h"

#include <algorithm>
#include <limits>

#include "engine/error/error.h"

namespace ft {
namespace {

/// What ShareGPT and its descendants call a speaker.
struct RoleName {
  const char* from;
  const char* role;
};
constexpr RoleName kRoles[] = {{"system", "system"},     {"developer", "system"},    {"user", "user"},
                               {"human", "user"},        {"assistant", "assistant"}, {"gpt", "assistant"},
                               {"chatgpt", "assistant"}, {"model", "assistant"},     {"tool", "tool"},
                               {"observation", "tool"}};

[[noreturn]] void fail(const Value& row, const std::string& message, const std::string& help = {}) {
  Error error(ErrorKind::format, message);
  error.at(row.origin.str());
  if (!help.empty()) error.help(help);
  throw error;
}

const std::string& text_of(const Value& row, const Value& holder, const char* key) {
  const Value* v = holder.find(key);
  if (!v) fail(row, std::string("no '") + key + "'");
  if (!v->is_string()) fail(row, std::string("'") + key + "' is " + describe(*v) + ", want a string");
  return v->as_string();
}

/// The text of a key that may be absent, null or empty.
std::string optional_text(const Value& row, const char* key) {
  const Value* v = row.find(key);
  return v && !v->is_null() ? text_of(row, row, key) : std::string();
}

std::string role_of(const Value& row, const std::string& from) {
  const auto it = std::find_if(std::begin(kRoles), std::end(kRoles), [&](const RoleName& r) { return from == r.from; });
  if (it == std::end(kRoles))
    fail(row, "unknown role '" + from + "'", "roles: system, user (human), assistant (gpt), tool");
  return it->role;
}

Value message(std::string role, std::string content) {
  return Value::map({{"role", Value(std::move(role))}, {"content", Value(std::move(content))}});
}

const Value& conversation(const Value& row) {
  const Value* list = row.find("messages");
  return list ? *list : row.at("conversations");
}

/// Brings {role, content} or {from, value} to {role, content}; other keys of a message stay behind them.
Value normalized_message(const Value& row, const Value& turn, RowForm form) {
  if (!turn.is_map()) fail(row, "a turn is " + describe(turn) + ", want an object");
  const bool sharegpt = form == RowForm::sharegpt;
  const char* role_key = sharegpt ? "from" : "role";
  const char* content_key = sharegpt ? "value" : "content";
  Value out = message(role_of(row, text_of(row, turn, role_key)), text_of(row, turn, content_key));
  for (const auto& [key, value] : turn.as_map())
    if (key != role_key && key != content_key) out.set(key, value);
  return out;
}

Value alpaca_messages(const Value& row) {
  Value::List out;
  if (std::string system = optional_text(row, "system"); !system.empty()) out.push_back(message("system", system));
  std::string request = text_of(row, row, "instruction");
  if (const std::string input = optional_text(row, "input"); !input.empty()) request += "\n\n" + input;
  out.push_back(message("user", std::move(request)));
  out.push_back(message("assistant", text_of(row, row, "output")));
  return Value(std::move(out));
}

std::vector<int32_t> integers(const Value& row, const char* key) {
  std::vector<int32_t> out;
  const Value& list = row.at(key);
  if (!list.is_list()) fail(row, std::string("'") + key + "' is " + describe(list) + ", want a list of integers");
  out.reserve(list.as_list().size());
  for (const Value& v : list.as_list()) {
    constexpr int64_t kLeast = std::numeric_limits<int32_t>::min(), kMost = std::numeric_limits<int32_t>::max();
    if (!v.is_integer() || v.as_integer() < kLeast || v.as_integer() > kMost)
      fail(row, std::string("'") + key + "' has " + describe(v) + ", want integers of 32 bits");
    out.push_back(static_cast<int32_t>(v.as_integer()));
  }
  return out;
}

}  // namespace

const char* to_string(RowForm form) {
  switch (form) {
    case RowForm::messages:
      return "messages";
    case RowForm::sharegpt:
      return "sharegpt";
    case RowForm::alpaca:
      return "alpaca";
    case RowForm::completion:
      return "completion";
    case RowForm::tokens:
      return "tokens";
    case RowForm::segments:
      return "segments";
  }
  return "unknown";
}

RowForm detect_form(const Value& row) {
  const auto first_turn_has = [&](const char* list, const char* key) {
    const Value* turns = row.find(list);
    return turns && turns->is_list() && (turns->as_list().empty() || turns->as_list().front().find(key));
  };
  if (row.find("input_ids")) return RowForm::tokens;
  if (row.find("segments")) return RowForm::segments;
  if (row.find("messages")) return RowForm::messages;
  if (first_turn_has("conversations", "from")) return RowForm::sharegpt;
  if (first_turn_has("conversations", "role")) return RowForm::messages;
  if (row.find("instruction") && row.find("output")) return RowForm::alpaca;
  if (row.find("text")) return RowForm::completion;
  std::string keys;
  if (row.is_map())
    for (const auto& [key, value] : row.as_map()) keys += (keys.empty() ? "" : ", ") + key;
  fail(row, "a row of no known form; its keys: " + (keys.empty() ? "none" : keys),
       "rows have messages [{role, content}], conversations [{from, value}], instruction and output, segments [{label, "
       "text}], "
       "text, or input_ids");
}

Value to_messages(const Value& row, RowForm form) {
  if (form == RowForm::alpaca) return alpaca_messages(row);
  if (form != RowForm::messages && form != RowForm::sharegpt)
    fail(row, std::string("a row of form ") + to_string(form) + " has no conversation");
  const Value& turns = conversation(row);
  if (!turns.is_list()) fail(row, "the conversation is " + describe(turns) + ", want a list");
  if (turns.as_list().empty()) fail(row, "a conversation without turns");
  Value::List out;
  const std::string system = form == RowForm::sharegpt ? optional_text(row, "system") : std::string();
  if (!system.empty()) out.push_back(message("system", system));
  for (const Value& turn : turns.as_list()) out.push_back(normalized_message(row, turn, form));
  return Value(std::move(out));
}

// The wording of tatsu-lab/stanford_alpaca, train.py, PROMPT_DICT: it is the format, so it must be theirs to the
// letter.
std::vector<Segment> alpaca_segments(const Value& row) {
  const std::string input = optional_text(row, "input");
  std::string prompt = optional_text(row, "system");
  if (prompt.empty())
    prompt = input.empty()
                 ? "Below is an instruction that describes a task. Write a response that appropriately completes "
                   "the request."
                 : "Below is an instruction that describes a task, paired with an input that provides further "
                   "context. Write a response that appropriately completes the request.";
  prompt += "\n\n### Instruction:\n" + text_of(row, row, "instruction");
  if (!input.empty()) prompt += "\n\n### Input:\n" + input;
  prompt += "\n\n### Response:";
  return {{std::move(prompt), false}, {text_of(row, row, "output"), true}};
}

std::vector<Segment> completion_segments(const Value& row, const std::string& field) {
  const Value* text = row.find(field);
  if (!text || !text->is_string())
    throw Error(ErrorKind::format,
                text ? "got " + describe(*text) + ", want text" : "the row has no key '" + field + "'")
        .key(field)
        .at(row.origin.str());
  return {{text->as_string(), true}};
}

TokenExample token_example(const Value& row) {
  TokenExample out;
  out.ids = integers(row, "input_ids");
  const Value* labels = row.find("labels");
  out.labels = labels && !labels->is_null() ? integers(row, "labels") : out.ids;
  if (out.ids.size() != out.labels.size())
    fail(row,
         "input_ids has " + std::to_string(out.ids.size()) + " entries, labels " + std::to_string(out.labels.size()));
  if (const Value* mask = row.find("attention_mask"); mask && !mask->is_null()) {
    const std::vector<int32_t> seen = integers(row, "attention_mask");
    if (seen != std::vector<int32_t>(out.ids.size(), 1))
      fail(row, "attention_mask is not 1 for each of " + std::to_string(out.ids.size()) +
                    " tokens: rows are wanted without padding");
  }
  return out;
}

}  // namespace ft
