#pragma once
/// From rows to tokens, on several threads and in bounded memory: windows of rows are read on the caller's thread,
/// tokenized on all, and added in the rows' order. Called by plans and by `ftengine preprocess`. No collective.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/data/chat_labels.h"
#include "engine/data/examples.h"
#include "engine/schema/value.h"

namespace ft {

class ChatTemplate;
class RowStream;
class TokenCacheWriter;
class Tokenizer;
class TokenRows;

/// Tokenizes the concatenated text, as Hugging Face does, and trains a token if its first byte lies in a trained
/// segment. `add_special_tokens` applies the tokenizer's template; what it adds in front is not trained, what it adds
/// behind is when the last segment is.   @throws Error(format) for text that is not UTF-8
TokenExample tokenize_joined(const Tokenizer& tokenizer, const std::vector<Segment>& segments, bool add_special_tokens);

/// What one row becomes. May be called from many threads at once.   @throws Error(format) at the row's file:line
using RowToTokens = std::function<TokenExample(const Value& row)>;

/// @param split a plan's data set: `kind`, and the keys of its kind
/// @param tokenizer null for tokenized rows alone
/// @param chat null for conversations that come as `segments` (RowReading::prepare)
RowToTokens row_to_tokens(const Value& split, std::shared_ptr<const Tokenizer> tokenizer,
                          std::shared_ptr<const ChatTemplate> chat, const ChatChoice& choice);

struct RowReading {
  int threads = 1;
  std::function<Value(Value)> prepare{};   ///< called for each row in order, on the caller's thread
  std::function<void(int64_t)> advance{};  ///< bytes of the files that were read since the last call
  TokenCacheWriter* writer = nullptr;      ///< takes the tokens out of `rows`, window by window
};

/// Adds all rows of a stream.   @throws what the first row that fails threw
void read_token_rows(TokenRows& rows, RowStream& stream, const RowToTokens& tokens, const RowReading& how);

}  // namespace ft
