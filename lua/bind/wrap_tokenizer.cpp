// Tokenizer: encode, decode, ids of tokens.
#include <lua.hpp>

#include "engine/error/error.h"
#include "engine/text/edited_tokenizer.h"
#include "engine/text/tokenize_rows.h"
#include "engine/text/tokenizer.h"
#include "lua/bind/native.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/handle.h"
#include "lua/boundary/values.h"

namespace ft {
namespace {

Value::List id_list(const std::vector<int32_t>& ids) {
  Value::List list;
  for (const int32_t id : ids) list.emplace_back(id);
  return list;
}

/// native.tokenizer(path) -> Tokenizer
int load(lua_State* L) {
  return guarded(L, [&] {
    push_handle(L, Tokenizer::load(text_argument(L, 1, "a tokenizer's folder")));
    return 1;
  });
}

/// native.edited_tokenizer(folder, edits, cache) -> the folder of a copy with more tokens
int edit(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, edited_tokenizer(text_argument(L, 1, "a tokenizer's folder"), to_value(L, 2, "edits"),
                                       text_argument(L, 3, "a cache's folder"))
                          .c_str());
    return 1;
  });
}

/// tokenizer:encode(text, add_special_tokens) -> ids
int encode(lua_State* L) {
  return guarded(L, [&] {
    const auto tokenizer = check_handle<const Tokenizer>(L, 1);
    push_value(L, Value(id_list(tokenizer->encode(text_argument(L, 2, "the text"), lua_toboolean(L, 3)))));
    return 1;
  });
}

/// tokenizer:decode(ids, skip_special_tokens) -> text
int decode(lua_State* L) {
  return guarded(L, [&] {
    const auto tokenizer = check_handle<const Tokenizer>(L, 1);
    std::vector<int32_t> ids;
    const Value list = to_value(L, 2, "ids");
    for (const Value& id : list.as_list()) ids.push_back(static_cast<int32_t>(id.as_integer()));
    const std::string text = tokenizer->decode(ids, lua_toboolean(L, 3));
    lua_pushlstring(L, text.data(), text.size());
    return 1;
  });
}

/// tokenizer:rows(lines, { special_tokens =, decode =, threads =, first_line = }) -> lines
int rows(lua_State* L) {
  return guarded(L, [&] {
    const auto tokenizer = check_handle<const Tokenizer>(L, 1);
    const Value list = to_value(L, 2, "lines"), given = to_value(L, 3, "options");
    std::vector<std::string> lines;
    for (const Value& line : list.as_list()) lines.push_back(line.as_string());
    const TokenizeRows options{.special_tokens = given.get("special_tokens", true),
                               .decode = given.get("decode", false),
                               .threads = static_cast<int>(given.get("threads", 1)),
                               .first_line = given.get("first_line", 1)};
    Value::List out;
    for (std::string& line : tokenize_rows(*tokenizer, lines, options)) out.emplace_back(std::move(line));
    push_value(L, Value(std::move(out)));
    return 1;
  });
}

int vocab_size(lua_State* L) {
  return guarded(L, [&] {
    lua_pushnumber(L, static_cast<double>(check_handle<const Tokenizer>(L, 1)->vocab_size()));
    return 1;
  });
}

/// tokenizer:folder() -> where its files lie
int folder(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, check_handle<const Tokenizer>(L, 1)->file().parent_path().c_str());
    return 1;
  });
}

int push_id(lua_State* L, std::optional<int32_t> id) {
  if (!id) return 0;
  lua_pushinteger(L, *id);
  return 1;
}

/// tokenizer:token_id("<|im_end|>") -> id or nil
int token_id(lua_State* L) {
  return guarded(
      L, [&] { return push_id(L, check_handle<const Tokenizer>(L, 1)->token_id(text_argument(L, 2, "a token"))); });
}
int bos_id(lua_State* L) {
  return guarded(L, [&] { return push_id(L, check_handle<const Tokenizer>(L, 1)->bos_id()); });
}
int eos_id(lua_State* L) {
  return guarded(L, [&] { return push_id(L, check_handle<const Tokenizer>(L, 1)->eos_id()); });
}
int pad_id(lua_State* L) {
  return guarded(L, [&] { return push_id(L, check_handle<const Tokenizer>(L, 1)->pad_id()); });
}

int stop_ids(lua_State* L) {
  return guarded(L, [&] {
    push_value(L, Value(id_list(check_handle<const Tokenizer>(L, 1)->stop_ids())));
    return 1;
  });
}

}  // namespace

template <>
const HandleClass& handle_class<const Tokenizer>() {
  static const HandleClass type{"Tokenizer",
                                {{"encode", encode},
                                 {"decode", decode},
                                 {"rows", rows},
                                 {"vocab_size", vocab_size},
                                 {"token_id", token_id},
                                 {"bos_id", bos_id},
                                 {"eos_id", eos_id},
                                 {"pad_id", pad_id},
                                 {"stop_ids", stop_ids},
                                 {"folder", folder}},
                                [](const void* object) {
                                  const auto* tokenizer = static_cast<const Tokenizer*>(object);
                                  return "Tokenizer " + tokenizer->file().string() + ", " +
                                         std::to_string(tokenizer->vocab_size()) + " ids";
                                }};
  return type;
}

void bind_tokenizer(lua_State* L) {
  add_function(L, "tokenizer", load);
  add_function(L, "edited_tokenizer", edit);
}

}  // namespace ft
