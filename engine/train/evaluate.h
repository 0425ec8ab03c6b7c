#pragma once
/// Loss and answers over a split. Ranks stay in step by rows of no weight. Collective.

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/data/packing.h"
#include "engine/train/run.h"
#include "engine/train/sharded_model.h"

namespace ft {

/// One split of the data as a run holds it.
struct Split {
  std::shared_ptr<const TokenRows> rows;
  Packing packing;
};

/// Visits this rank's micro batches of the split, each rank as many: rows of no weight make up for those that it lacks.
/// @param micro rows a rank computes at once.
void for_each_batch(ShardedModel& model, const Split& split, int64_t micro, int64_t pad_id,
                    const std::function<void(const Batch&)>& visit);

/// Mean nll over the split's target tokens: Σ nll over all ranks in fp64, divided by their number.
/// @param micro rows a rank computes at once.
Evaluation evaluate_loss(ShardedModel& model, const Split& split, int64_t micro, int64_t pad_id);

/// What evaluate_answers decodes at once on a rank, at most: prompts, and the tokens of the longest.
struct PromptsAtOnce {
  int64_t count = 0, longest = 0;
};
/// @param limit rows, 0 for all   @param ranks that share the rows
PromptsAtOnce prompts_at_once(const TokenRows& rows, int64_t limit, int ranks);

/// Decodes an answer, greedily, for the tokens of each document before its first trained label, and compares it with
/// the trained labels up to the first stop token; both as text, surrounding white space aside.
Evaluation evaluate_answers(ShardedModel& model, const TokenRows& rows, const Tokenizer& tokenizer,
                            const EvaluateOptions& options);

}  // namespace ft
