#include "engine/text/tokenize_rows.h"

#include <charconv>

#include "engine/device/parallel_for.h"
#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/text/tokenizer.h"

namespace ft {
namespace {

std::vector<int32_t> stated_ids(const Value& list) {
  std::vector<int32_t> ids;
  for (const Value& id : list.as_list()) {
    if (id.as_integer() < INT32_MIN || id.as_integer() > INT32_MAX)
      throw Error(ErrorKind::format, "got id " + describe(id) + ", which is too large").key("ids");
    ids.push_back(static_cast<int32_t>(id.as_integer()));
  }
  return ids;
}

void append_ids(const std::vector<int32_t>& ids, std::string& out) {
  out += "{\"ids\": [";
  char digits[16];
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ", ";
    out.append(digits, std::to_chars(digits, digits + sizeof digits, ids[i]).ptr);
  }
  out += ']';
}

std::string tokenize_row(const Tokenizer& tokenizer, const std::string& line, const std::string& place,
                         const TokenizeRows& options) {
  const Value row = parse_json(line, place);
  const Value* given = options.decode ? row.find("ids") : nullptr;
  const Value* text = row.is_string() ? &row : row.find("text");
  if (!given && !(text && text->is_string()))
    throw Error(ErrorKind::format, std::string("got ") + describe(row) + ", want {\"text\": …}" +
                                       (options.decode ? " or {\"ids\": […]}" : ""));
  const Value* pair = row.find("pair") ? row.find("pair") : row.find("text_pair");
  if (pair && !(pair->is_string() && text && text->is_string()))
    throw Error(ErrorKind::format, "got " + describe(*pair) + ", want a second text beside \"text\"").key("pair");
  const std::vector<int32_t> ids =
      given  ? stated_ids(*given)
      : pair ? tokenizer.encode_pair_as_stated(text->as_string(), pair->as_string(), options.special_tokens)
             : tokenizer.encode_as_stated(text->as_string(), options.special_tokens);
  std::string out;
  append_ids(ids, out);
  if (options.decode) out += ", \"text\": " + write_json(Value(tokenizer.decode(ids, false)));
  return out + "}";
}

}  // namespace

std::vector<std::string> tokenize_rows(const Tokenizer& tokenizer, const std::vector<std::string>& lines,
                                       const TokenizeRows& options) {
  std::vector<std::string> out(lines.size());
  parallel_for(lines.size(), {options.threads}, [&](size_t i) {
    const std::string place = "stdin:" + std::to_string(options.first_line + static_cast<int64_t>(i));
    try {
      out[i] = tokenize_row(tokenizer, lines[i], place, options);
    } catch (Error& error) {
      throw error.at(place);
    }
  });
  return out;
}

}  // namespace ft
