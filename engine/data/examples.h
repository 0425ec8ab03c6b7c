#pragma once
/// What a row says, whatever its spelling: chat messages, text to continue, or tokens. Pure functions over values;
/// called by plans for each row. No thread or rank rules.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

/// How a row spells its content.
enum class RowForm {
  messages,    ///< `messages` or `conversations`: a list of {role, content}
  sharegpt,    ///< `conversations`: a list of {from, value}
  alpaca,      ///< `instruction`, optional `input` and `system`, `output`
  completion,  ///< `text`
  tokens,      ///< `input_ids`, optional `labels`
  segments,    ///< `segments`: a list of {label, text}
};

/// "messages", "sharegpt", "alpaca", "completion", "tokens", "segments".
const char* to_string(RowForm form);

/// A piece of a row's text; `train` says whether the loss sees it.
struct Segment {
  std::string text;
  bool train = false;
};

/// Tokens of a row; a label is its token's id, or -100 where the loss must not look (PyTorch's ignore_index).
struct TokenExample {
  std::vector<int32_t> ids, labels;
};

/// @throws Error(format) at the row's file:line, naming the keys it has, for a row of no known form.
RowForm detect_form(const Value& row);

/// The conversation as a list of {role, content}, roles system, user, assistant or tool; other keys of a message are
/// kept. Alpaca rows become user and assistant turns, the input below the instruction after an empty line.
/// @throws Error(format) for forms without a conversation, unknown roles, content that is not a string.
Value to_messages(const Value& row, RowForm form);

/// An Alpaca row in the prompt of the Stanford Alpaca data set: the prompt not trained, the output trained. A `system`
/// takes the place of the prompt's first paragraph.
std::vector<Segment> alpaca_segments(const Value& row);

/// The text under `field` of a completion row: all of it trained.   @throws Error(format) when there is none.
std::vector<Segment> completion_segments(const Value& row, const std::string& field);

/// A pre-tokenized row; without `labels` every token is its own label.
/// @throws Error(format) for lists of different length, entries that are not integers of 32 bits, an attention_mask
/// that hides tokens.
TokenExample token_example(const Value& row);

}  // namespace ft
