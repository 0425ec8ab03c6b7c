// TokenRows: the tokens that the rows of a data set became.
#include <unistd.h>

#include <lua.hpp>

#include "engine/data/packing.h"
#include "engine/data/preference.h"
#include "engine/data/statistics.h"
#include "engine/data/token_rows.h"
#include "engine/device/terminal.h"
#include "engine/error/error.h"
#include "engine/text/tokenizer.h"
#include "lua/bind/chat_choice.h"
#include "lua/bind/native.h"
#include "lua/bind/row_cursor.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/handle.h"
#include "lua/boundary/values.h"

namespace ft {

namespace {

/// native.token_rows{ seq_len=, vocab_size=, too_long= } -> TokenRows
int make_rows(lua_State* L) {
  return guarded(L, [&] {
    const Value given = to_value(L, 1, "token_rows");
    TokenRowsOptions options;
    options.seq_len = given.get("seq_len", 0);
    options.vocab_size = given.get("vocab_size", 0);
    options.too_long = parse_too_long(given.get("too_long", "truncate"));
    options.together = given.get("together", 1);
    push_handle(L, std::make_shared<TokenRows>(options));
    return 1;
  });
}

/// rows:add_pair(reader, tokenizer or nil, chat template or nil, choice) -> whether it was kept
int add_pair_of_answers(lua_State* L) {
  return guarded(L, [&] {
    const auto rows = check_handle<TokenRows>(L, 1);
    const auto cursor = check_handle<RowCursor>(L, 2);
    const auto tokenizer = lua_isnil(L, 3) ? nullptr : check_handle<const Tokenizer>(L, 3);
    const auto chat = lua_isnil(L, 4) ? nullptr : check_handle<const ChatTemplate>(L, 4);
    const Value split = to_value(L, 5, "choice");
    lua_pushboolean(L,
                    add_pair(*rows, cursor->row, {tokenizer.get(), chat.get(), chat_choice(split), pair_names(split)}));
    return 1;
  });
}

/// rows:check_trainable(file): raises an error for a split without rows or targets
int check_trainable(lua_State* L) {
  return guarded(L, [&] {
    check_handle<TokenRows>(L, 1)->check_trainable(text_argument(L, 2, "the file's name"));
    return 0;
  });
}

int report(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, check_handle<TokenRows>(L, 1)->report().c_str());
    return 1;
  });
}

/// rows:facts(seq_len, pack) -> what data_statistics says
int facts(lua_State* L) {
  return guarded(L, [&] {
    const auto rows = check_handle<TokenRows>(L, 1);
    const auto seq_len = static_cast<int64_t>(number_argument(L, 2, "seq_len"));
    push_value(L, data_statistics(*rows, make_packing(*rows, seq_len, lua_toboolean(L, 3)), seq_len));
    return 1;
  });
}

/// rows:lengths() -> a histogram of them, as lines for standard output
int lengths(lua_State* L) {
  return guarded(L, [&] {
    const std::string text =
        histogram_text(length_histogram(*check_handle<TokenRows>(L, 1)), *Terminal::on(STDOUT_FILENO));
    lua_pushlstring(L, text.data(), text.size());
    return 1;
  });
}

/// rows:row(i) -> { ids =, labels =, line = }, i from 1
int row(lua_State* L) {
  return guarded(L, [&] {
    const auto rows = check_handle<TokenRows>(L, 1);
    const auto i = static_cast<int64_t>(number_argument(L, 2, "a row's number")) - 1;
    if (i < 0 || i >= rows->size()) return 0;
    Value::List ids, labels;
    for (const int32_t id : rows->ids(i)) ids.emplace_back(id);
    for (const int32_t label : rows->labels(i)) labels.emplace_back(label);
    push_value(
        L, Value::map({{"ids", Value(std::move(ids))}, {"labels", Value(std::move(labels))}, {"line", rows->line(i)}}));
    return 1;
  });
}

}  // namespace

template <>
const HandleClass& handle_class<TokenRows>() {
  static const HandleClass type{
      "TokenRows",
      {{"add_pair", add_pair_of_answers},
       {"check_trainable", check_trainable},
       {"report", report},
       {"facts", facts},
       {"lengths", lengths},
       {"row", row}},
      [](const void* object) { return "TokenRows: " + static_cast<const TokenRows*>(object)->report(); },
      [](const void* object) {
        const auto* rows = static_cast<const TokenRows*>(object);
        return rows->is_mapped() ? 0 : 8 * rows->num_tokens();
      }};
  return type;
}

void bind_rows(lua_State* L) { add_function(L, "token_rows", make_rows); }

}  // namespace ft
