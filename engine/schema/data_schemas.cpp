#include "engine/schema/data_schemas.h"

namespace ft {
namespace {

const std::vector<std::string> kDataKinds = {"chat", "alpaca", "completion", "tokenized", "segments", "preference"};

std::vector<Option> data_options() {
  return {
      {.key = "path",
       .kinds = kPath | kList,
       .doc = "a file, a glob or a directory; or a list of them, { path = …, weight = 2 } among them (docs/data.md)",
       .required = true},
      {.key = "seq_len",
       .kinds = kInteger,
       .doc = "tokens a row, by default 2048, of val and test the training data's; activations grow with it",
       .at_least = 2},
      {.key = "pack",
       .kinds = kBoolean,
       .doc = "put several samples into a row (attention stays inside each)",
       .fallback = true},
      {.key = "split",
       .kinds = kString | kNumber,
       .doc = "a share such as 0.05: that part of the file, drawn by the seed; \"train\": what the shares of other "
              "splits of the same file leave over",
       .above = 0,
       .below = 1},
      {.key = "too_long",
       .kinds = kString,
       .doc = "what becomes of samples longer than seq_len",
       .fallback = "truncate",
       .allowed = {"truncate", "drop", "error"}},
      {.key = "remainder",
       .kinds = kString,
       .doc = "rows left over when an epoch does not fill its last step: fill up with rows of no weight (pad), leave "
              "them out (drop), or fill up from the epoch's first rows (wrap)",
       .fallback = "pad",
       .allowed = {"pad", "drop", "wrap"}},
      {.key = "shuffle", .kinds = kBoolean, .doc = "a new order of rows in each epoch", .fallback = true},
      {.key = "limit",
       .kinds = kInteger | kNumber,
       .doc = "samples to take from the start of the files; below 1 the share of them",
       .above = 0},
      {.key = "sample_by",
       .kinds = kString,
       .doc = "what a row of a plain text file is",
       .fallback = "line",
       .allowed = {"line", "document"}},
      {.key = "streaming",
       .kinds = kBoolean,
       .doc = "keep tokens on the disk, in `cache`, and not in memory: for data that is larger than it; they are made "
              "once, as by ftengine preprocess",
       .fallback = false},
      {.key = "cache",
       .kinds = kPath,
       .doc = "folder of tokens that ftengine preprocess and streaming keep; default: data in FTENGINE_CACHE, or in "
              "~/.cache/ftengine"}};
}

Schema data_schema(std::string name, std::string doc, std::vector<Option> more) {
  Schema schema{.name = std::move(name), .doc = std::move(doc), .options = data_options(), .positional = "path"};
  for (Option& option : more) schema.options.push_back(std::move(option));
  schema.renames = {{"max_seq_length", "seq_len", "is called seq_len here"},
                    {"sequence_len", "seq_len", "is called seq_len here"},
                    {"packing", "pack", "is called pack here"},
                    {"sample_packing", "pack", "is called pack here"},
                    {"excess_length_strategy", "too_long", "is called too_long here"}};
  schema.replacements = {{"too_long", "raise", "write too_long = \"error\""}};
  return schema;
}

std::vector<Option> chat_options() {
  return {
      {.key = "format",
       .kinds = kString,
       .doc = "template: the model's own chat template; chatml; llama3; auto: its template, else the one whose "
              "special tokens the tokenizer has",
       .fallback = "auto",
       .allowed = {"auto", "template", "chatml", "llama3"}},
      {.key = "chat_template", .kinds = kPath, .doc = "a Jinja file in place of the model's template"},
      {.key = "template_name", .kinds = kString, .doc = "which of a model's several templates, such as tool_use"},
      {.key = "template_variables",
       .kinds = kMap,
       .doc = "what the template may read beside the row: { enable_thinking = false }"},
      {.key = "mask_prompts",
       .kinds = kBoolean,
       .doc = "learn the turns of roles_to_train alone; false: every token",
       .fallback = true},
      {.key = "roles_to_train", .kinds = kList, .doc = "whose turns are learned; a message's own train or weight wins"},
      {.key = "train_turns",
       .kinds = kString,
       .doc = "all: every turn of these roles; last: the conversation's last one alone",
       .fallback = "all",
       .allowed = {"all", "last"}},
      {.key = "system", .kinds = kString, .doc = "system message for conversations that have none"},
      {.key = "field_messages", .kinds = kString, .doc = "a row's list of messages, where it is called otherwise"},
      {.key = "message_field_role", .kinds = kString, .doc = "a message's role, where it is not role or from"},
      {.key = "message_field_content", .kinds = kString, .doc = "a message's text, where it is not content or value"},
      {.key = "message_field_training", .kinds = kString, .doc = "a message's own choice, where it is not train"},
      {.key = "field_tools", .kinds = kString, .doc = "a row's tools, where they are called otherwise"},
      {.key = "roles",
       .kinds = kMap,
       .doc = "what rows call roles: { user = { \"human\" }, assistant = { \"bot\" } }"}};
}

std::vector<Option> alpaca_options() {
  return {
      {.key = "mask_prompts", .kinds = kBoolean, .doc = "learn the outputs alone", .fallback = true},
      {.key = "field_instruction",
       .kinds = kString,
       .doc = "the request, where it is not instruction, question, query or prompt"},
      {.key = "field_input", .kinds = kString, .doc = "what the request is about, where it is not input"},
      {.key = "field_output",
       .kinds = kString,
       .doc = "the answer, where it is not output, answer, response or completion"},
      {.key = "field_system", .kinds = kString, .doc = "the system text, where it is not system"},
      {.key = "system_prompt", .kinds = kString, .doc = "the system text of rows that have none"},
      {.key = "format",
       .kinds = kString,
       .doc = "a prompt of one's own: \"Q: {instruction}\\n{input}\\nA: \", with {anything} for a field of the row; "
              "without it Stanford Alpaca's"},
      {.key = "no_input_format", .kinds = kString, .doc = "the same for rows without input"}};
}

std::vector<Option> preference_options() {
  return {
      {.key = "chat_template", .kinds = kPath, .doc = "a Jinja file in place of the model's template"},
      {.key = "template_name", .kinds = kString, .doc = "which of a model's several templates"},
      {.key = "template_variables", .kinds = kMap, .doc = "what the template may read beside the row"},
      {.key = "system", .kinds = kString, .doc = "system message for conversations that have none"},
      {.key = "field_prompt", .kinds = kString, .doc = "a row's prompt, where it is called otherwise"},
      {.key = "field_chosen", .kinds = kString, .doc = "the better answer, where it is called otherwise"},
      {.key = "field_rejected", .kinds = kString, .doc = "the other answer, where it is called otherwise"},
      {.key = "field_system", .kinds = kString, .doc = "the system text that prompt_format takes, by default system"},
      {.key = "prompt_within",
       .kinds = kBoolean,
       .doc = "the answers begin with the prompt, whatever a row calls prompt",
       .fallback = false},
      {.key = "as_messages",
       .kinds = kBoolean,
       .doc =
           "texts are turns: the prompt a user's, the answers an assistant's; of several turns of an answer the last "
           "one counts",
       .fallback = false},
      {.key = "message_field_role", .kinds = kString, .doc = "a message's role, where it is not role or from"},
      {.key = "message_field_content", .kinds = kString, .doc = "a message's text, where it is not content or value"},
      {.key = "roles", .kinds = kMap, .doc = "what rows call roles: { user = { \"human\" }, assistant = { \"bot\" } }"},
      {.key = "prompt_format",
       .kinds = kString,
       .doc =
           "the prompt of texts: \"{system}\\nQ: {prompt}\\nA:\"; answers that are messages are their last one's text"},
      {.key = "no_system_format", .kinds = kString, .doc = "the same for rows without a system text"},
      {.key = "chosen_format", .kinds = kString, .doc = "the better answer: \"{chosen}<|im_end|>\""},
      {.key = "rejected_format", .kinds = kString, .doc = "the other answer: \"{rejected}<|im_end|>\""}};
}

Schema splits_schema() {
  const auto split = [](const char* key, const char* doc, bool required) {
    return Option{.key = key, .kinds = kBlock, .doc = doc, .required = required, .schemas = kDataKinds};
  };
  return {.name = "data",
          .doc = "A data set for each split.",
          .options = {split("train", "what is learned: ft.chat, ft.alpaca, ft.completion or ft.tokenized", true),
                      split("val", "run:evaluate(\"val\")", false), split("test", "run:evaluate(\"test\")", false)},
          .renames = {{"validation", "val", "is called val here"}, {"eval", "val", "is called val here"}}};
}

}  // namespace

std::vector<Schema> data_schemas() {
  return {
      splits_schema(),
      data_schema("chat", "Conversations: messages, ShareGPT conversations, or Alpaca rows.", chat_options()),
      data_schema("alpaca", "Rows of instruction, input and output, in Alpaca's prompt or one's own.",
                  alpaca_options()),
      data_schema("completion", "Plain text, learned whole.",
                  {{.key = "field", .kinds = kString, .doc = "the key that holds the text", .fallback = "text"}}),
      data_schema("tokenized", "Rows of input_ids and labels.", {}),
      data_schema("segments", "Rows of segments [{label, text}], learned where label is true; nothing is added.", {}),
      data_schema("preference", "Pairs for DPO: prompt, chosen and rejected, as texts, messages or tokens.",
                  preference_options())};
}

}  // namespace ft
