#pragma once
/// Rows of a preference data set: a prompt, an answer that was chosen and one that was rejected, each as texts, as
/// messages, or as tokens (TRL's prompt, chosen, rejected and prompt_ids, chosen_ids, rejected_ids). A row becomes two
/// documents, prompt and answer, of which the answer is learned. Pure functions; called by plans for each row.

#include <functional>

#include "engine/data/chat_labels.h"
#include "engine/data/examples.h"
#include "engine/data/row_fields.h"
#include "engine/data/token_rows.h"

namespace ft {

/// Beside the row itself, what turns texts into tokens.
struct PreferenceReader {
  const Tokenizer* tokenizer = nullptr;  ///< null: rows are tokens
  const ChatTemplate* chat = nullptr;    ///< null: rows are texts or tokens
  ChatChoice choice{};
  PairNames names{};
};

/// Adds the row's two documents, chosen first. Both are added or none: where one keeps no token of its answer within
/// seq_len.   @return whether they were
/// @throws Error(format) at the row's file:line for a row that lacks a key, or mixes texts and messages.
bool add_pair(TokenRows& rows, const Value& row, const PreferenceReader& reader);

}  // namespace ft
