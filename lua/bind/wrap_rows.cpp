// RowReader and TokenRows: the rows of a data file, and the tokens they become. Lua formats conversations; the rest is
// native.
#include <lua.hpp>

#include "engine/data/packing.h"
#include "engine/data/rows.h"
#include "engine/data/token_rows.h"
#include "engine/error/error.h"
#include "engine/text/tokenizer.h"
#include "lua/bind/chat_choice.h"
#include "lua/bind/native.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/handle.h"
#include "lua/boundary/values.h"

namespace ft {

/// A reader with the row it stands on.
struct RowCursor {
  explicit RowCursor(const std::string& path) : reader(path) {}
  RowReader reader;
  Value row;
};

namespace {

/// native.row_reader(path) -> RowReader
int open_rows(lua_State* L) {
  return guarded(L, [&] {
    push_handle(L, std::make_shared<RowCursor>(text_argument(L, 1, "a data file's path")));
    return 1;
  });
}

/// native.count_rows(path) -> number of rows
int count_rows(lua_State* L) {
  return guarded(L, [&] {
    RowReader reader(text_argument(L, 1, "a data file's path"));
    while (reader.next()) {
    }
    lua_pushnumber(L, static_cast<double>(reader.count()));
    return 1;
  });
}

/// native.held_out(rows, share, seed) -> list of booleans
int held_out(lua_State* L) {
  return guarded(L, [&] {
    const auto rows = static_cast<int64_t>(number_argument(L, 1, "rows"));
    const std::vector<bool> held =
        held_out_rows(rows, number_argument(L, 2, "a share"), static_cast<uint64_t>(number_argument(L, 3, "seed")));
    lua_createtable(L, static_cast<int>(held.size()), 0);
    for (size_t i = 0; i < held.size(); ++i) {
      lua_pushboolean(L, held[i]);
      lua_rawseti(L, -2, static_cast<int>(i) + 1);
    }
    return 1;
  });
}

/// reader:next() -> whether there is another row
int next_row(lua_State* L) {
  return guarded(L, [&] {
    const auto cursor = check_handle<RowCursor>(L, 1);
    auto row = cursor->reader.next();
    lua_pushboolean(L, row.has_value());
    if (row) cursor->row = std::move(*row);
    return 1;
  });
}

int form(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, to_string(detect_form(check_handle<RowCursor>(L, 1)->row)));
    return 1;
  });
}

/// reader:messages() -> list of { role, content }
int messages(lua_State* L) {
  return guarded(L, [&] {
    const auto cursor = check_handle<RowCursor>(L, 1);
    push_value(L, to_messages(cursor->row, detect_form(cursor->row)));
    return 1;
  });
}

/// reader:where() -> "file:line"
int where(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, check_handle<RowCursor>(L, 1)->row.origin.str().c_str());
    return 1;
  });
}

/// native.token_rows{ seq_len=, vocab_size=, too_long= } -> TokenRows
int make_rows(lua_State* L) {
  return guarded(L, [&] {
    const Value given = to_value(L, 1, "token_rows");
    TokenRowsOptions options;
    options.seq_len = given.get("seq_len", 0);
    options.vocab_size = given.get("vocab_size", 0);
    options.too_long = parse_too_long(given.get("too_long", "truncate"));
    push_handle(L, std::make_shared<TokenRows>(options));
    return 1;
  });
}

/// rows:add_segments(tokenizer, { { text =, train = }, … }, add_special_tokens, reader) -> whether it was kept
int add_segments(lua_State* L) {
  return guarded(L, [&] {
    const auto rows = check_handle<TokenRows>(L, 1);
    const auto tokenizer = check_handle<const Tokenizer>(L, 2);
    std::vector<Segment> segments;
    const Value list = to_value(L, 3, "segments");
    for (const Value& segment : list.as_list())
      segments.push_back({segment.at("text").as_string(), segment.get("train", false)});
    const auto cursor = check_handle<RowCursor>(L, 5);
    lua_pushboolean(L, rows->add_segments(*tokenizer, segments, lua_toboolean(L, 4), cursor->row.origin));
    return 1;
  });
}

/// rows:add_chat(tokenizer, chat, reader, choice) -> whether it was kept
int add_chat(lua_State* L) {
  return guarded(L, [&] {
    const auto rows = check_handle<TokenRows>(L, 1);
    const auto tokenizer = check_handle<const Tokenizer>(L, 2);
    const auto chat = check_handle<const ChatTemplate>(L, 3);
    const auto cursor = check_handle<RowCursor>(L, 4);
    const ChatTokens made = chat_tokens(*chat, *tokenizer, cursor->row, chat_choice(to_value(L, 5, "choice")));
    lua_pushboolean(L, rows->add(made.ids, made.labels, cursor->row.origin));
    return 1;
  });
}

std::vector<Segment> text_segments(const Value& row, const Value& how, const Tokenizer& tokenizer) {
  std::vector<Segment> segments;
  if (how.get("kind", "") == "alpaca") {
    segments = alpaca_segments(row);
    if (!how.get("mask_prompts", true))
      for (Segment& segment : segments) segment.train = true;
  } else {
    segments = completion_segments(row, how.get("field", "text"));
  }
  if (const auto eos = tokenizer.eos_id())
    segments.push_back({tokenizer.decode(std::vector<int32_t>{*eos}, false), true});
  return segments;
}

/// rows:add_row(reader, { kind = "alpaca" | "completion" | "tokenized", … }, tokenizer) -> whether it was kept
int add_row(lua_State* L) {
  return guarded(L, [&] {
    const auto rows = check_handle<TokenRows>(L, 1);
    const auto cursor = check_handle<RowCursor>(L, 2);
    const Value how = to_value(L, 3, "data");
    bool kept = false;
    if (how.get("kind", "") == "tokenized") {
      const TokenExample example = token_example(cursor->row);
      kept = rows->add(example.ids, example.labels, cursor->row.origin);
    } else {
      const auto tokenizer = check_handle<const Tokenizer>(L, 4);
      kept = rows->add_segments(*tokenizer, text_segments(cursor->row, how, *tokenizer), true, cursor->row.origin);
    }
    lua_pushboolean(L, kept);
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

/// rows:facts(seq_len, pack) -> { documents, tokens, targets, rows, packing }
int facts(lua_State* L) {
  return guarded(L, [&] {
    const auto rows = check_handle<TokenRows>(L, 1);
    const auto seq_len = static_cast<int64_t>(number_argument(L, 2, "seq_len"));
    const Packing packing = make_packing(*rows, seq_len, lua_toboolean(L, 3));
    push_value(L, Value::map({{"documents", rows->size()},
                              {"tokens", rows->num_tokens()},
                              {"targets", rows->num_targets()},
                              {"rows", packing.size()},
                              {"packing", packing_report(*rows, packing, seq_len)}}));
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
const HandleClass& handle_class<RowCursor>() {
  static const HandleClass type{"RowReader",
                                {{"next", next_row}, {"form", form}, {"messages", messages}, {"where", where}}};
  return type;
}

template <>
const HandleClass& handle_class<TokenRows>() {
  static const HandleClass type{
      "TokenRows",
      {{"add_segments", add_segments},
       {"add_chat", add_chat},
       {"add_row", add_row},
       {"check_trainable", check_trainable},
       {"report", report},
       {"facts", facts},
       {"row", row}},
      [](const void* object) { return "TokenRows: " + static_cast<const TokenRows*>(object)->report(); },
      [](const void* object) { return 8 * static_cast<const TokenRows*>(object)->num_tokens(); }};
  return type;
}

void bind_rows(lua_State* L) {
  add_function(L, "row_reader", open_rows);
  add_function(L, "count_rows", count_rows);
  add_function(L, "held_out", held_out);
  add_function(L, "token_rows", make_rows);
}

}  // namespace ft
