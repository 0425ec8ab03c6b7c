#pragma once
/// Rows whose fields have names of their own, and prompts of one's own made of them. Pure functions over values; called
/// for each row. No thread rules.

#include <map>
#include <string>
#include <vector>

#include "engine/data/examples.h"
#include "engine/schema/value.h"

namespace ft {

/// What a data set calls the fields of its rows; "" for the names that are known without being told.
struct FieldNames {
  std::string messages, role, content, training, tools;  ///< of conversations
  std::map<std::string, std::string> roles;              ///< what a row calls a role, and which one it is
  std::string instruction, input, output, system;        ///< of instructions
  std::string format, no_input_format;                   ///< the prompt: "Q: {instruction}\nA:"; "": Stanford Alpaca's
  std::string system_prompt;                             ///< where a row has no system text
};

/// Reads a plan's data set: field_messages, message_field_role, …, roles = { user = { "human" } }, format, …
FieldNames field_names(const Value& split);

/// The row with its conversation as `messages` of {role, content}, `train` and `tools`, where names are told; else as
/// it is. Names of roles that are not told keep their own.
/// @throws Error(format) at the row's file:line for a field that is absent
Value with_known_names(const Value& row, const FieldNames& names);

/// An instruction as a prompt, which is not trained, and its answer, which is. Without names, `instruction` may also be
/// called question, query or prompt, and `output` answer, response or completion. In a format, {instruction}, {input}
/// and {system} stand for these fields, {anything} for the row's field of that name, {{ and }} for a brace;
/// blanks at its end are learned with the answer.
/// @throws Error(format) at the row's file:line for a field that is absent or no text
std::vector<Segment> instruction_segments(const Value& row, const FieldNames& names);

/// segments: [{label: true, text: "…"}], each learned where its label says so.   @throws Error(format) at the row
std::vector<Segment> stated_segments(const Value& row);

/// What a data set of pairs calls the fields of its rows, and what is made of its texts.
struct PairNames {
  std::string prompt, chosen, rejected, system;  ///< "": prompt, chosen, rejected and system
  bool within = false;                           ///< the answers begin with the prompt
  std::string prompt_format, no_system_format, chosen_format, rejected_format;  ///< "": the text as it is
  bool as_messages = false;                                                     ///< texts are turns
  FieldNames messages;                                                          ///< of a turn
};

/// Reads a plan's data set: field_prompt, field_chosen, prompt_format, as_messages, message_field_role, …
PairNames pair_names(const Value& split);

/// The row with `prompt`, `chosen` and `rejected`, all texts or all lists of {role, content}; rows of tokens as they
/// are. With formats, answers that are messages are the text of their last one, and without a prompt the first message
/// of the better answer is it.
/// @throws Error(format) at the row's file:line for a field that is absent, or of another kind
Value with_known_pair(const Value& row, const PairNames& names);

}  // namespace ft
