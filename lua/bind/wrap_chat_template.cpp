// ChatTemplate: conversations to text.
#include <lua.hpp>

#include "engine/data/chat_labels.h"
#include "engine/device/parallel_for.h"
#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/template/chat_template.h"
#include "engine/text/tokenizer.h"
#include "lua/bind/chat_choice.h"
#include "lua/bind/native.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/handle.h"
#include "lua/boundary/values.h"

namespace ft {

ChatChoice chat_choice(const Value& given) {
  ChatChoice out;
  if (const Value* roles = given.find("roles_to_train"); roles && !roles->is_null()) {
    out.roles.clear();
    for (const Value& role : roles->as_list()) out.roles.insert(role.as_string());
  }
  out.last_turn = given.get("train_turns", "all") == "last";
  out.everything = !given.get("mask_prompts", true);
  out.system = given.get("system", "");
  if (const Value* variables = given.find("template_variables"); variables && variables->is_map())
    out.variables = variables->as_map();
  return out;
}

namespace {

/// native.chat_template(path, name or nil) -> ChatTemplate, or nil where the folder has none
int load(lua_State* L) {
  return guarded(L, [&] {
    const std::string name = lua_isstring(L, 2) ? lua_tostring(L, 2) : "";
    auto chat = ChatTemplate::load(text_argument(L, 1, "a model's folder"), name);
    if (!chat) return 0;
    push_handle(L, std::move(chat));
    return 1;
  });
}

std::string render_row(const ChatTemplate& chat, const std::string& line, const std::string& place, bool keep_going) {
  try {
    const Rendered made = chat.render(parse_json(line, place));
    if (made.error && !keep_going) {
      Error error(ErrorKind::format, made.error->type + ": " + made.error->message);
      error.at(place).help("--keep-going prints it as {\"error\": …} and goes on");
      if (made.error->line > 0) error.context("line " + std::to_string(made.error->line) + " of " + chat.file());
      throw error;
    }
    return render_line(made);
  } catch (const Error& error) {
    if (!keep_going) throw;
    return write_json(Value::map({{"error", "ValueError"}, {"message", std::string(error.what())}}));
  }
}

/// chat:rows(lines, { keep_going =, threads =, first_line = }) -> lines
int rows(lua_State* L) {
  return guarded(L, [&] {
    const auto chat = check_handle<const ChatTemplate>(L, 1);
    const Value list = to_value(L, 2, "lines"), given = to_value(L, 3, "options");
    const bool keep_going = given.get("keep_going", false);
    const int64_t first = given.get("first_line", 1);
    std::vector<std::string> out(list.is_list() ? list.as_list().size() : 0);
    parallel_for(out.size(), {static_cast<int>(given.get("threads", 1))}, [&](size_t i) {
      const std::string place = "stdin:" + std::to_string(first + static_cast<int64_t>(i));
      out[i] = render_row(*chat, list.as_list()[i].as_string(), place, keep_going);
    });
    Value::List made;
    for (std::string& line : out) made.emplace_back(std::move(line));
    push_value(L, Value(std::move(made)));
    return 1;
  });
}

/// chat:render({ messages =, … }) -> text
int render(lua_State* L) {
  return guarded(L, [&] {
    const auto chat = check_handle<const ChatTemplate>(L, 1);
    const Rendered made = chat->render(to_value(L, 2, "the conversation"));
    if (made.error)
      throw Error(ErrorKind::format, "the chat template refuses it: " + made.error->type + ": " + made.error->message)
          .at(chat->file());
    lua_pushlstring(L, made.text.data(), made.text.size());
    return 1;
  });
}

/// chat:fault() -> why it cannot be rendered at all, or nil
int fault(lua_State* L) {
  return guarded(L, [&] {
    const auto chat = check_handle<const ChatTemplate>(L, 1);
    if (!chat->fault()) return 0;
    lua_pushstring(L, (chat->fault()->type + ": " + chat->fault()->message).c_str());
    return 1;
  });
}

/// chat:reads(name) -> whether it stands in the template
int reads(lua_State* L) {
  return guarded(L, [&] {
    lua_pushboolean(L, check_handle<const ChatTemplate>(L, 1)->reads(text_argument(L, 2, "a name")));
    return 1;
  });
}

int file(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, check_handle<const ChatTemplate>(L, 1)->file().c_str());
    return 1;
  });
}

/// chat:tokens(tokenizer, row, choice) -> { ids =, labels = }
int tokens(lua_State* L) {
  return guarded(L, [&] {
    const auto chat = check_handle<const ChatTemplate>(L, 1);
    const auto tokenizer = check_handle<const Tokenizer>(L, 2);
    const ChatTokens made =
        chat_tokens(*chat, *tokenizer, to_value(L, 3, "the row"), chat_choice(to_value(L, 4, "choice")));
    Value::List ids, labels;
    for (const int32_t id : made.ids) ids.emplace_back(id);
    for (const int32_t label : made.labels) labels.emplace_back(label);
    push_value(L, Value::map({{"ids", Value(std::move(ids))}, {"labels", Value(std::move(labels))}}));
    return 1;
  });
}

}  // namespace

template <>
const HandleClass& handle_class<const ChatTemplate>() {
  static const HandleClass type{
      "ChatTemplate",
      {{"rows", rows}, {"render", render}, {"fault", fault}, {"file", file}, {"reads", reads}, {"tokens", tokens}},
      [](const void* object) { return "ChatTemplate " + static_cast<const ChatTemplate*>(object)->file(); }};
  return type;
}

void bind_chat_template(lua_State* L) { add_function(L, "chat_template", load); }

}  // namespace ft
