// RowSource: the rows of a data set; from there to tokens, in memory or by a cache on the disk.
#include <unistd.h>

#include <algorithm>
#include <lua.hpp>
#include <optional>

#include "engine/data/row_fields.h"
#include "engine/data/row_tokens.h"
#include "engine/data/token_cache.h"
#include "engine/data/token_rows.h"
#include "engine/data/used_columns.h"
#include "engine/device/cores.h"
#include "engine/device/progress_bar.h"
#include "engine/error/error.h"
#include "engine/formats/locked_file.h"
#include "engine/parallel/process_group.h"
#include "engine/parallel/rank_environment.h"
#include "engine/text/tokenizer.h"
#include "engine/train/interrupt.h"
#include "lua/bind/chat_choice.h"
#include "lua/bind/native.h"
#include "lua/bind/row_cursor.h"
#include "lua/boundary/error_value.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/handle.h"
#include "lua/boundary/values.h"

namespace ft {
namespace {

constexpr int64_t kWorthABar = 8 << 20;  // bytes of files; less is read at once

/// native.row_source({ path =, share =, held =, seed =, limit =, sample_by = }, split, template) -> RowSource
///   with a plan's data set as `split`, of files that lie by columns those alone that its rows are made of are read
int open_rows(lua_State* L) {
  return guarded(L, [&] {
    const Value given = to_value(L, 1, "row_source");
    RowChoice choice;
    choice.share = given.get("share", 0.0);
    choice.held = given.get("held", false);
    choice.seed = static_cast<uint64_t>(given.get("seed", 0));
    choice.limit = given.get("limit", 0);
    choice.unit = given.get("sample_by", "line") == "document" ? TextUnit::document : TextUnit::line;
    const auto made = std::make_shared<RowCursor>(RowCursor{RowStream(list_data_files(given.at("path")), choice)});
    lua_settop(L, 3);
    const auto chat = lua_isnil(L, 3) ? nullptr : check_handle<const ChatTemplate>(L, 3);
    if (!lua_isnil(L, 2)) made->stream.read_only(used_columns(to_value(L, 2, "a data set"), chat));
    push_handle(L, made);
    return 1;
  });
}

/// source:next() -> whether there is another row
int next_row(lua_State* L) {
  return guarded(L, [&] {
    const auto cursor = check_handle<RowCursor>(L, 1);
    auto row = cursor->stream.next();
    lua_pushboolean(L, row.has_value());
    if (row) cursor->row = std::move(*row);
    return 1;
  });
}

/// source:form() -> "messages", "sharegpt", "alpaca", "completion", "tokens", "segments"
int form(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, to_string(detect_form(check_handle<RowCursor>(L, 1)->row)));
    return 1;
  });
}

/// source:where() -> "file:line"
int where(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, check_handle<RowCursor>(L, 1)->row.origin.str().c_str());
    return 1;
  });
}

/// source:describe(folder, add) -> list of { name, size, hash, weight }; nil where `add` is false and a file is not
/// known
int describe_source(lua_State* L) {
  return guarded(L, [&] {
    const auto cursor = check_handle<RowCursor>(L, 1);
    const auto known = describe_files(cursor->stream.files(), text_argument(L, 2, "a folder"), lua_toboolean(L, 3));
    if (!known) return 0;
    push_value(L, *known);
    return 1;
  });
}

/// native.describe_files(list of paths, folder) -> the same of files that are no data
int describe_list(lua_State* L) {
  return guarded(L, [&] {
    std::vector<DataFile> files;
    const Value paths = to_value(L, 1, "paths");
    if (paths.is_list())
      for (const Value& path : paths.as_list()) files.push_back({path.as_string()});
    push_value(L, *describe_files(files, text_argument(L, 2, "a folder"), true));
    return 1;
  });
}

/// native.cache_key(value) -> the name of a cache
int key_of(lua_State* L) {
  return guarded(L, [&] {
    lua_pushstring(L, cache_key(to_value(L, 1, "a description")).c_str());
    return 1;
  });
}

/// native.open_tokens(path) -> TokenRows that are mapped
int open_tokens(lua_State* L) {
  return guarded(L, [&] {
    const std::string path = text_argument(L, 1, "a cache");
    push_handle(L, std::make_shared<TokenRows>(std::make_shared<const MappedTokens>(path)));
    return 1;
  });
}

/// native.lock_file(path) -> LockedFile, once no other process has it; lock:release() frees it
int lock_file(lua_State* L) {
  return guarded(L, [&] {
    const std::string path = text_argument(L, 1, "a lock file");
    push_handle(L, std::make_shared<LockedFile>(path, [&] {
                  if (interrupted() != 0)
                    throw Error(ErrorKind::interrupt, "stopped while another process holds " + path);
                }));
    return 1;
  });
}

/// Threads of a rank: its share of the machine's cores.
int threads_of_rank() {
  const auto place = RankEnvironment::from_env();
  return std::max(1, usable_cores() / std::max(1, place ? place->local_world_size : 1));
}

/// A conversation as the pieces that a format written in Lua (the function at `index`) makes of it.
Value formatted(lua_State* L, int index, const FieldNames& names, const Value& row) {
  const Value known = with_known_names(row, names);
  lua_pushvalue(L, index);
  push_value(L, to_messages(known, detect_form(known)));
  if (lua_pcall(L, 1, 1, 0) != 0) {
    Error error = read_error(L, -1);
    lua_pop(L, 1);
    throw error.at(row.origin.str());
  }
  const Value pieces = to_value(L, -1, "segments");
  lua_pop(L, 1);
  Value::List segments;
  if (pieces.is_list())
    for (const Value& piece : pieces.as_list())
      segments.push_back(Value::map({{"text", piece.at("text")}, {"label", piece.get("train", false)}}));
  Value out = Value::map({{"segments", Value(std::move(segments))}});
  out.origin = row.origin;
  return out;
}

/// native.read_rows(rows, source, split, { tokenizer =, template =, format = function(messages), cache = a file })
///   adds all rows of the source; with `cache`, their tokens go into that file
int read_rows_into(lua_State* L) {
  return guarded(L, [&] {
    const auto rows = check_handle<TokenRows>(L, 1);
    const auto cursor = check_handle<RowCursor>(L, 2);
    const Value split = to_value(L, 3, "a data set");
    lua_settop(L, 4);
    for (const char* name : {"tokenizer", "template", "format", "cache"}) lua_getfield(L, 4, name);  // at 5 to 8
    const auto tokenizer = lua_isnil(L, 5) ? nullptr : check_handle<const Tokenizer>(L, 5);
    const auto chat = lua_isnil(L, 6) ? nullptr : check_handle<const ChatTemplate>(L, 6);
    RowReading reading;
    reading.threads = threads_of_rank();
    const FieldNames names = field_names(split);
    if (!lua_isnil(L, 7)) reading.prepare = [&](Value row) { return formatted(L, 7, names, row); };
    std::optional<TokenCacheWriter> writer;
    if (!lua_isnil(L, 8)) reading.writer = &writer.emplace(text_argument(L, 8, "a cache"));
    const auto place = RankEnvironment::from_env();
    const bool shown = cursor->stream.total_bytes() >= kWorthABar && (writer || !place || place->rank == 0);
    ProgressBar bar(shown ? Terminal::on(STDOUT_FILENO) : Terminal::silent(), "Tokenizing",
                    cursor->stream.total_bytes());
    reading.advance = [&](int64_t bytes) { bar.advance(bytes); };
    read_token_rows(*rows, cursor->stream, row_to_tokens(split, tokenizer, chat, chat_choice(split)), reading);
    bar.finish();
    if (writer) writer->commit(*rows);
    return 0;
  });
}

}  // namespace

template <>
const HandleClass& handle_class<RowCursor>() {
  static const HandleClass type{"RowSource",
                                {{"next", next_row}, {"form", form}, {"where", where}, {"describe", describe_source}}};
  return type;
}

template <>
const HandleClass& handle_class<LockedFile>() {
  static const HandleClass type{"LockedFile", {}};
  return type;
}

void bind_row_source(lua_State* L) {
  add_function(L, "row_source", open_rows);
  add_function(L, "read_rows", read_rows_into);
  add_function(L, "describe_files", describe_list);
  add_function(L, "cache_key", key_of);
  add_function(L, "open_tokens", open_tokens);
  add_function(L, "lock_file", lock_file);
}

}  // namespace ft
