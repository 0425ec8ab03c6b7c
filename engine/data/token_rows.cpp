#include "engine/data/token_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/device/figures.h"
#include "engine/error/error.h"
#include "engine/text/tokenizer.h"

namespace ft {
namespace {

int64_t count_targets(std::span<const int32_t> labels) {
  if (labels.empty()) return 0;
  const auto targets = labels.subspan(1);  // nothing stands before the first token to learn it from
  return static_cast<int64_t>(targets.size()) - std::count(targets.begin(), targets.end(), kIgnoreLabel);
}

}  // namespace

const char* to_string(TooLong choice) {
  switch (choice) {
    case TooLong::truncate:
      return "truncate";
    case TooLong::drop:
      return "drop";
    case TooLong::error:
      return "error";
  }
  return "unknown";
}

TooLong parse_too_long(const std::string& name) {
  for (const TooLong choice : {TooLong::truncate, TooLong::drop, TooLong::error})
    if (name == to_string(choice)) return choice;
  throw Error(ErrorKind::config, "got '" + name + "', want truncate, drop or error").key("too_long");
}

TokenRows::TokenRows(TokenRowsOptions options) : options_(options) {}

void TokenRows::check_row(std::span<const int32_t> ids, std::span<const int32_t> labels, const Origin& origin) const {
  const auto fail = [&](const std::string& message) {
    const std::string row = origin.file.empty() ? "row " + std::to_string(counts_.offered) : origin.str();
    throw Error(ErrorKind::format, message).at(row);
  };
  if (ids.size() != labels.size()) fail(fmt::format("{} ids but {} labels", ids.size(), labels.size()));
  const int64_t most = options_.vocab_size > 0 ? options_.vocab_size : INT32_MAX;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= most)
      fail(fmt::format("id {} at token {} is outside the vocabulary of {}", ids[i], i, most));
    if (labels[i] != kIgnoreLabel && (labels[i] < 0 || labels[i] >= most))
      fail(fmt::format("label {} at token {} is outside the vocabulary of {}, and not {}", labels[i], i, most,
                       kIgnoreLabel));
  }
}

bool TokenRows::add(std::span<const int32_t> ids, std::span<const int32_t> labels, const Origin& origin) {
  ++counts_.offered;
  check_row(ids, labels, origin);
  const auto size = static_cast<int64_t>(ids.size());
  if (options_.seq_len > 0 && size > options_.seq_len) {
    if (options_.too_long == TooLong::error)
      throw Error(ErrorKind::format,
                  fmt::format("a row of {} tokens, want at most seq_len = {}", size, options_.seq_len))
          .at(origin.str())
          .help("raise seq_len, or set too_long to truncate or drop");
    if (options_.too_long == TooLong::drop) return ++counts_.dropped, false;
    ++counts_.truncated;
    counts_.tokens_cut += size - options_.seq_len;
    ids = ids.first(static_cast<size_t>(options_.seq_len));
    labels = labels.first(static_cast<size_t>(options_.seq_len));
  }
  const int64_t targets = count_targets(labels);
  if (targets == 0) return ++counts_.untrained, false;
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  labels_.insert(labels_.end(), labels.begin(), labels.end());
  starts_.push_back(static_cast<int64_t>(ids_.size()));
  lines_.push_back(origin.line);
  num_targets_ += targets;
  ++counts_.kept;
  return true;
}

bool TokenRows::add_segments(const Tokenizer& tokenizer, const std::vector<Segment>& segments, bool add_special_tokens,
                             const Origin& origin) {
  std::string text;
  std::vector<size_t> ends;  // where each segment ends in the text
  for (const Segment& segment : segments) {
    text += segment.text;
    ends.push_back(text.size());
  }
  std::vector<Tokenizer::Token> tokens;
  try {
    tokens = tokenizer.encode_with_offsets(text, add_special_tokens);
  } catch (Error& error) {
    throw error.at(origin.str());
  }
  std::vector<int32_t> ids, labels;
  ids.reserve(tokens.size());
  labels.reserve(tokens.size());
  size_t segment = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const Tokenizer::Token& token = tokens[i];
    while (segment < ends.size() && token.begin >= ends[segment] && ends[segment] < text.size()) ++segment;
    const bool in_front = token.begin == token.end && token.begin == 0;  // added by the template before the text
    const bool train = !in_front && segment < segments.size() && segments[segment].train;
    ids.push_back(token.id);
    labels.push_back(train ? token.id : kIgnoreLabel);
  }
  return add(ids, labels, origin);
}

std::span<const int32_t> TokenRows::ids(int64_t row) const {
  return std::span(ids_).subspan(static_cast<size_t>(starts_[row]), static_cast<size_t>(length(row)));
}

std::span<const int32_t> TokenRows::labels(int64_t row) const {
  return std::span(labels_).subspan(static_cast<size_t>(starts_[row]), static_cast<size_t>(length(row)));
}

std::vector<int64_t> TokenRows::lengths() const {
  std::vector<int64_t> out(static_cast<size_t>(size()));
  for (int64_t row = 0; row < size(); ++row) out[static_cast<size_t>(row)] = length(row);
  return out;
}

int64_t TokenRows::longest() const {
  int64_t most = 0;
  for (int64_t row = 0; row < size(); ++row) most = std::max(most, length(row));
  return most;
}

void TokenRows::check_trainable(const std::string& file) const {
  if (num_targets_ > 0) return;
  if (counts_.offered == 0) throw Error(ErrorKind::format, "is an empty data set: no rows").at(file);
  throw Error(ErrorKind::format,
              fmt::format("no row has a token to train on: {} rows, {} longer than seq_len and dropped, "
                          "{} with every label masked or cut off",
                          count_text(counts_.offered), count_text(counts_.dropped), count_text(counts_.untrained)))
      .at(file)
      .help("a chat needs an assistant turn, and seq_len room for it");
}

std::string TokenRows::report() const {
  std::string out = fmt::format("{} rows, {} tokens, {} trained", count_text(size()), count_text(num_tokens()),
                                count_text(num_targets_));
  if (counts_.truncated > 0)
    out += fmt::format("; {} truncated to {} ({} tokens cut)", count_text(counts_.truncated), options_.seq_len,
                       count_text(counts_.tokens_cut));
  if (counts_.dropped > 0)
    out += fmt::format("; {} dropped, longer than {}", count_text(counts_.dropped), options_.seq_len);
  if (counts_.untrained > 0)
    out += fmt::format("; {} left out, nothing in them to train on", count_text(counts_.untrained));
  return out;
}

}  // namespace ft
