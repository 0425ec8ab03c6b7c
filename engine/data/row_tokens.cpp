#include "engine/data/row_tokens.h"

#include "engine/data/row_fields.h"
#include "engine/data/row_stream.h"
#include "engine/data/token_cache.h"
#include "engine/data/token_rows.h"
#include "engine/device/parallel_for.h"
#include "engine/error/error.h"
#include "engine/text/tokenizer.h"

namespace ft {
namespace {

/// A window of rows ends at the first of these: what is in memory at once.
constexpr size_t kWindowRows = 4096;
constexpr int64_t kWindowBytes = 2 << 20;

/// Each segment on its own, as its author wrote it: no special tokens are added, none is joined across a border.
TokenExample tokenize_each(const Tokenizer& tokenizer, const std::vector<Segment>& segments) {
  TokenExample out;
  for (const Segment& segment : segments)
    for (const int32_t id : tokenizer.encode(segment.text, false)) {
      out.ids.push_back(id);
      out.labels.push_back(segment.train ? id : kIgnoreLabel);
    }
  return out;
}

void add_end(const Tokenizer& tokenizer, std::vector<Segment>& segments) {
  if (const auto eos = tokenizer.eos_id())
    segments.push_back({tokenizer.decode(std::vector<int32_t>{*eos}, false), true});
}

/// Errors of a row name its place.
template <class Call>
RowToTokens placed(Call call) {
  return [call = std::move(call)](const Value& row) {
    try {
      return call(row);
    } catch (Error& error) {
      throw error.at(row.origin.str());
    }
  };
}

}  // namespace

TokenExample tokenize_joined(const Tokenizer& tokenizer, const std::vector<Segment>& segments,
                             bool add_special_tokens) {
  std::string text;
  std::vector<size_t> ends;  // where each segment ends in the text
  for (const Segment& segment : segments) {
    text += segment.text;
    ends.push_back(text.size());
  }
  TokenExample out;
  size_t segment = 0;
  for (const Tokenizer::Token& token : tokenizer.encode_with_offsets(text, add_special_tokens)) {
    while (segment < ends.size() && token.begin >= ends[segment] && ends[segment] < text.size()) ++segment;
    const bool in_front = token.begin == token.end && token.begin == 0;  // added by the template before the text
    const bool train = !in_front && segment < segments.size() && segments[segment].train;
    out.ids.push_back(token.id);
    out.labels.push_back(train ? token.id : kIgnoreLabel);
  }
  return out;
}

RowToTokens row_to_tokens(const Value& split, std::shared_ptr<const Tokenizer> tokenizer,
                          std::shared_ptr<const ChatTemplate> chat, const ChatChoice& choice) {
  const std::string kind = split.get("kind", "");
  if (kind == "tokenized") return placed([](const Value& row) { return token_example(row); });
  FT_CHECK(tokenizer != nullptr, "text without a tokenizer");
  const FieldNames names = field_names(split);
  if (kind == "chat" && !chat)
    return placed([=](const Value& row) { return tokenize_joined(*tokenizer, stated_segments(row), false); });
  if (kind == "chat")
    return placed([=](const Value& row) {
      ChatTokens made = chat_tokens(*chat, *tokenizer, with_known_names(row, names), choice);
      return TokenExample{std::move(made.ids), std::move(made.labels)};
    });
  if (kind == "segments")
    return placed([=](const Value& row) { return tokenize_each(*tokenizer, stated_segments(row)); });
  if (kind == "alpaca")
    return placed([=, mask = split.get("mask_prompts", true)](const Value& row) {
      std::vector<Segment> segments = instruction_segments(row, names);
      for (Segment& segment : segments) segment.train = segment.train || !mask;
      add_end(*tokenizer, segments);
      return tokenize_joined(*tokenizer, segments, true);
    });
  FT_CHECK(kind == "completion", "a data set of kind '" + kind + "'");
  return placed([=, field = split.get("field", "text")](const Value& row) {
    std::vector<Segment> segments = completion_segments(row, field);
    add_end(*tokenizer, segments);
    return tokenize_joined(*tokenizer, segments, true);
  });
}

void read_token_rows(TokenRows& rows, RowStream& stream, const RowToTokens& tokens, const RowReading& how) {
  std::vector<Value> window;
  std::vector<TokenExample> made;
  int64_t told = 0;
  for (bool more = true; more;) {
    window.clear();
    const int64_t begin = stream.bytes_read();
    while (window.size() < kWindowRows && stream.bytes_read() - begin < kWindowBytes) {
      std::optional<Value> row = stream.next();
      if (!(more = row.has_value())) break;
      window.push_back(how.prepare ? how.prepare(std::move(*row)) : std::move(*row));
    }
    made.assign(window.size(), {});
    parallel_for(window.size(), {how.threads}, [&](size_t i) { made[i] = tokens(window[i]); });
    for (size_t i = 0; i < window.size(); ++i) rows.add(made[i].ids, made[i].labels, window[i].origin);
    if (how.writer) how.writer->add(rows);
    if (how.advance) how.advance(stream.bytes_read() - told);
    told = stream.bytes_read();
  }
}

}  // namespace ft
