#include "engine/data/preference.h"

#include "engine/error/error.h"
#include "engine/text/tokenizer.h"

namespace ft {
namespace {

constexpr const char* kHelp =
    "a row has prompt, chosen and rejected, all texts or all lists of messages (prompt may be left out of messages "
    "that begin alike), or prompt_ids, chosen_ids and rejected_ids";

const Value& part(const Value& row, const char* key) {
  if (const Value* value = row.find(key); value && !value->is_null()) return *value;
  throw Error(ErrorKind::format, std::string("has no '") + key + "'").at(row.origin.str()).help(kHelp);
}

TokenExample of_tokens(const Value& row, const char* answer) {
  TokenExample made;
  for (const Value& id : part(row, "prompt_ids").as_list()) made.ids.push_back(static_cast<int32_t>(id.as_integer()));
  made.labels.assign(made.ids.size(), kIgnoreLabel);
  for (const Value& id : part(row, answer).as_list()) {
    made.ids.push_back(static_cast<int32_t>(id.as_integer()));
    made.labels.push_back(made.ids.back());
  }
  return made;
}

/// Marks messages, so that nothing of the prompt is learned, and every message of the answer.
void append(Value::List& conversation, const Value::List& messages, bool train) {
  for (const Value& message : messages) {
    conversation.push_back(message);
    conversation.back().set("train", train);
  }
}

/// The row of messages that a template renders: prompt and answer.
Value conversation(const Value& row, const char* answer) {
  const Value &chosen = part(row, "chosen"), &rejected = part(row, "rejected");
  const Value* prompt = row.find("prompt");
  Value::List messages;
  size_t shared = 0;
  if (prompt && !prompt->is_null()) {
    if (!prompt->is_list())
      throw Error(ErrorKind::format, "its answers are messages, its prompt is not").at(row.origin.str()).help(kHelp);
    append(messages, prompt->as_list(), false);
  } else {
    const auto &a = chosen.as_list(), &b = rejected.as_list();
    while (shared < a.size() && shared < b.size() && a[shared] == b[shared]) ++shared;
    append(messages, {a.begin(), a.begin() + static_cast<std::ptrdiff_t>(shared)}, false);
  }
  const auto& own = part(row, answer).as_list();
  append(messages, {own.begin() + static_cast<std::ptrdiff_t>(shared), own.end()}, true);
  Value made = row;
  made.set("messages", Value(std::move(messages)));
  return made;
}

std::vector<Segment> segments(const Value& row, const char* answer, const Tokenizer& tokenizer) {
  std::vector<Segment> made{{part(row, "prompt").as_string(), false}, {part(row, answer).as_string(), true}};
  if (const auto eos = tokenizer.eos_id()) made.push_back({tokenizer.decode(std::vector<int32_t>{*eos}, false), true});
  return made;
}

bool add_answer(TokenRows& rows, const Value& row, const std::string& answer, const PreferenceReader& reader) {
  if (row.find("prompt_ids")) {
    const TokenExample made = of_tokens(row, (answer + "_ids").c_str());
    return rows.add(made.ids, made.labels, row.origin);
  }
  if (!reader.tokenizer)
    throw Error(ErrorKind::format, "is text, and the model has no tokenizer.json").at(row.origin.str());
  if (!part(row, answer.c_str()).is_list())
    return rows.add_segments(*reader.tokenizer, segments(row, answer.c_str(), *reader.tokenizer), true, row.origin);
  if (!reader.chat)
    throw Error(ErrorKind::format, "holds messages, and the model has no chat template").at(row.origin.str());
  const ChatTokens made =
      chat_tokens(*reader.chat, *reader.tokenizer, conversation(row, answer.c_str()), reader.choice);
  return rows.add(made.ids, made.labels, row.origin);
}

}  // namespace

bool add_pair(TokenRows& rows, const Value& given, const PreferenceReader& reader) {
  const Value row = with_known_pair(given, reader.names);
  TokenRows pair(rows.options());
  for (const char* answer : {"chosen", "rejected"})
    if (!add_answer(pair, row, answer, reader)) return false;
  for (int64_t i = 0; i < 2; ++i) rows.add(pair.ids(i), pair.labels(i), row.origin);
  return true;
}

}  // namespace ft
