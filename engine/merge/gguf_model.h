#pragma once
/// A merged model as one GGUF file, as llama.cpp names and orders things (ggml-org/llama.cpp, gguf-py/gguf/constants.py
/// and tensor_mapping.py). Used by merge alone, from one thread; starts others while it runs.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/formats/gguf.h"
#include "engine/merge/merge_input.h"

namespace ft {

/// A tensor of the file: where it comes from, or its values.
struct GgufPart {
  GgufTensor tensor;
  const MergeTensor* from = nullptr;  ///< null: `values`
  float shift = 0;                    ///< is added to each value
  int64_t heads = 0;                  ///< rotary halves of this many heads are interleaved; 0: rows stay where they are
  std::vector<float> values = {};
};

/// What a model becomes.   @param type of matrices; one-dim tensors are f32, and rows that are no multiple of 32 f16
/// instead of q8_0.
/// @throws Error(config) for a model that GGUF has no place for here: its architecture, scaling or a tensor, by name.
struct GgufModel {
  GgufKeys keys;
  std::vector<GgufPart> parts;
};
GgufModel gguf_model(const MergeInput& input, GgufType type);

/// Adds the tokenizer's keys: tokens, merges or scores, special ids, chat template, from tokenizer.json, else
/// tokenizer.model, and their kin among `files`; nothing where there is no tokenizer.
/// @throws Error(config) for a tokenizer whose kind or splitting llama.cpp has no name for, Error(format) for a
/// tokenizer.model that cannot be read.
void add_gguf_tokenizer(GgufKeys& keys, const std::vector<std::filesystem::path>& files, int64_t vocabulary);

/// Writes the file.   @param wrote as in write_shard.
void write_gguf(const MergeInput& input, const GgufModel& model, const std::filesystem::path& path, int threads,
                const std::function<void(uint64_t, const std::string&)>& wrote);

}  // namespace ft
