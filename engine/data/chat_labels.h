#pragma once
/// Which bytes of a rendered conversation are learned. Exact or refused: what the template prints for a message is told
/// by the evaluation itself (each printed byte knows the message whose turn it was), never by searching for text. Pure
/// functions, called by plans for each row. No thread or rank rules.

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "engine/schema/value.h"
#include "engine/template/chat_template.h"

namespace ft {

class Tokenizer;

struct ChatChoice {
  std::set<std::string> roles{"assistant"};  ///< whose turns are learned
  bool last_turn = false;                    ///< only the last of them
  bool everything = false;                   ///< every token, whoever says it
  std::string system;                        ///< for conversations without a system message
  Value::Map variables;                      ///< for the template, where the row does not say otherwise
};

struct ChatText {
  std::string text;
  std::vector<TextRange> trained;  ///< in order, not overlapping
};

/// Renders a row and marks what is learned of it: the turns of the chosen roles, where a message's own `train` (true or
/// false) or `weight` (1 or 0) does not say otherwise. Where the template has {% generation %} blocks, they say which
/// part of a turn is learned. Else it is what the template prints for the message, without the head that
/// add_generation_prompt gives, through the token that ends the turn.
/// @throws Error(format) at the row's file:line for a row that the template refuses, and where the template does not
/// tell what belongs to a message
ChatText chat_text(const ChatTemplate& chat, const Tokenizer& tokenizer, const Value& row, const ChatChoice& choice);

struct ChatTokens {
  std::vector<int32_t> ids, labels;
};

/// chat_text as tokens, without what the tokenizer's own template adds: the chat template writes that itself. A token
/// is learned if any byte of it is, as transformers' assistant mask has it.
ChatTokens chat_tokens(const ChatTemplate& chat, const Tokenizer& tokenizer, const Value& row,
                       const ChatChoice& choice);

}  // namespace ft
