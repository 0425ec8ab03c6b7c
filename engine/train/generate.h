#pragma once
/// Decoding: greedy or sampled, with a KV cache, for a batch of prompts of different lengths. Runs until every rank's
/// prompts are done, since a sharded model's units are gathered by all ranks together. Collective.

#include <cstdint>
#include <vector>

#include "engine/train/sharded_model.h"

namespace ft {

struct GenerateOptions {
  int64_t max_new_tokens = 64;
  double temperature = 0;  ///< 0: greedy
  int64_t top_k = 0;       ///< 0: all
  double top_p = 1;        ///< nucleus: the fewest tokens whose probabilities reach it
  uint64_t seed = 0;
  std::vector<int32_t> stop{};  ///< ids that end an answer; the stop token itself is kept
};

/// @return the new tokens of each prompt, in order.
std::vector<std::vector<int32_t>> generate(ShardedModel& model, const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateOptions& options);

}  // namespace ft
