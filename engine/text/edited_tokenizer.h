#pragma once
/// A tokenizer with tokens that its folder lacks: a folder of its own in a cache, so that whatever reads a tokenizer's
/// folder (chat templates, caches of tokens, a run's copies) reads the edited one, and the model's stays as it is.
/// Called once for a plan, on every rank; ranks of a machine share the folder.

#include <filesystem>

#include "engine/schema/value.h"

namespace ft {

/// Writes, or finds, the edited copy of a tokenizer's folder.
/// @param edits what is to be different, each key optional:
///   added_tokens    [text]: added tokens, found whole in texts; as transformers' add_tokens(AddedToken(text,
///                   normalized=False)) makes them
///   special_tokens  {bos_token, eos_token, pad_token, unk_token: text, additional_special_tokens: [text]}: as
///                   add_special_tokens has it
///   renamed_tokens  {id: text}: a reserved token called otherwise
/// A token that the vocabulary has keeps its id; others get the next ones. A folder with a SentencePiece
/// tokenizer.model alone gets them in tokenizer_config.json's added_tokens_decoder, where transformers keeps them.
/// @return the folder: CACHE/<name>-<hash>, with edits.json beside the tokenizer's files: {edits, new: [{id, content}]}
/// @throws Error(config) for edits that cannot be made, Error(format) for a tokenizer that Tokenizer::load refuses,
/// Error(io).
std::filesystem::path edited_tokenizer(const std::filesystem::path& folder, const Value& edits,
                                       const std::filesystem::path& cache);

}  // namespace ft
