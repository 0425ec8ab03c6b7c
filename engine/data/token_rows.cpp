#include "engine/data/token_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/data/row_tokens.h"
#include "engine/data/token_cache.h"
#include "engine/device/figures.h"
#include "engine/error/error.h"

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
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  tokens_.insert(tokens_.end(), labels.begin(), labels.end());
  starts_.push_back(starts_.back() + static_cast<int64_t>(ids.size()));
  lines_.push_back(origin.line);
  num_targets_ += targets;
  ++counts_.kept;
  return true;
}

bool TokenRows::add_segments(const Tokenizer& tokenizer, const std::vector<Segment>& segments, bool add_special_tokens,
                             const Origin& origin) {
  try {
    const TokenExample made = tokenize_joined(tokenizer, segments, add_special_tokens);
    return add(made.ids, made.labels, origin);
  } catch (Error& error) {
    throw error.at(origin.str());
  }
}

std::span<const int64_t> TokenRows::starts() const { return mapped_ ? mapped_->starts() : starts_; }

std::span<const int64_t> TokenRows::lines() const { return mapped_ ? mapped_->lines() : lines_; }

std::span<const int32_t> TokenRows::document(int64_t row) const {
  const std::span<const int32_t> tokens = mapped_ ? mapped_->tokens() : tokens_;
  const int64_t begin = starts()[row] - taken_;
  FT_CHECK(begin >= 0, "the tokens of row " + std::to_string(row) + " were moved to a cache");
  return tokens.subspan(static_cast<size_t>(2 * begin), static_cast<size_t>(2 * length(row)));
}

void TokenRows::check_mapped(int64_t row) const {
  if (!mapped_) return;
  const int64_t most = options_.vocab_size > 0 ? options_.vocab_size : INT32_MAX;
  for (const int32_t token : document(row))
    if (token != kIgnoreLabel && (token < 0 || token >= most))
      throw Error(ErrorKind::format,
                  fmt::format("row {} has token {}, want less than {}: the file is damaged", row, token, most))
          .at(mapped_->file())
          .help("remove the file; it is made again");
}

std::vector<int32_t> TokenRows::take_tokens() {
  FT_CHECK(!mapped_, "mapped tokens stay where they are");
  taken_ = starts_.back();
  return std::exchange(tokens_, {});
}

Value TokenRows::record() const {
  return Value::map({{"seq_len", options_.seq_len},
                     {"vocab_size", options_.vocab_size},
                     {"too_long", to_string(options_.too_long)},
                     {"together", options_.together},
                     {"targets", num_targets_},
                     {"offered", counts_.offered},
                     {"kept", counts_.kept},
                     {"truncated", counts_.truncated},
                     {"tokens_cut", counts_.tokens_cut},
                     {"dropped", counts_.dropped},
                     {"untrained", counts_.untrained}});
}

TokenRows::TokenRows(std::shared_ptr<const MappedTokens> mapped) : mapped_(std::move(mapped)) {
  try {
    const Value& record = mapped_->record();
    const auto count = [&](const char* key) { return record.at(key).as_integer(); };
    options_ = {count("seq_len"), count("vocab_size"), parse_too_long(record.at("too_long").as_string()),
                count("together")};
    num_targets_ = count("targets");
    counts_ = {count("offered"),    count("kept"),    count("truncated"),
               count("tokens_cut"), count("dropped"), count("untrained")};
  } catch (Error& error) {
    throw Error(ErrorKind::format, "is no cache of tokens: its record says: " + error.message()).at(mapped_->file());
  }
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
