#pragma once
/// A model, a tokenizer and data so small that a run of a recipe takes a second: Qwen3 of two layers, the tokenizer of
/// tests/golden/text/qwen with ChatML's tokens added, sentences from a counter.

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/recipes/program.h"

namespace ft::test {

using Json = nlohmann::ordered_json;

constexpr int kVocabulary = 432;  // the tokenizer's ids, and four more that no text makes

/// config.json of the model.
Json small_config();
/// Writes config.json, tokenizer.json and tokenizer_config.json.
void write_model_parts(const fs::path& folder);
/// Rows of {"text": …}.
void write_corpus(const fs::path& file, int rows = 60);
/// Rows of {"messages": […]}: a question, and its words backwards.
void write_chats(const fs::path& file, int rows = 160);

/// Pre-trains for a few steps by recipes/pretrain.lua. @return the merged Hugging Face directory, its weights in fp32
fs::path pretrained(const fs::path& folder);
/// What the tests of a suite share: a folder with `parts` (write_model_parts) and corpus.jsonl.
std::unique_ptr<TemporaryDirectory> folder_of_parts();
/// The same with `model`, pre-trained, and chats.jsonl.
std::unique_ptr<TemporaryDirectory> folder_of_model();
/// A copy of `model` in `folder` to be damaged.
fs::path copy_of(const fs::path& model, const fs::path& folder);

/// The header of a safetensors file as JSON; edited, it is written back, and the tensors' bytes stay where they are.
void edit_header(const fs::path& file, const std::function<void(Json& header)>& edit);
void edit_json(const fs::path& file, const std::function<void(Json& json)>& edit);

/// Rows of a metrics.jsonl.
std::vector<Json> metrics(const fs::path& run_directory);

}  // namespace ft::test
