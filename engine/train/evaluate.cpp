#include "engine/train/evaluate.h"

#include <algorithm>

#include "engine/data/sampler.h"
#include "engine/data/token_rows.h"
#include "engine/text/tokenizer.h"
#include "engine/train/generate.h"
#include "engine/train/micro_batch.h"

namespace ft {
namespace {

// Prompts decoded at once on a rank: few enough for the KV cache of a large model, many enough to share each gather.
constexpr int64_t kPromptsAtOnce = 64;

struct Question {
  std::vector<int32_t> prompt;
  std::string answer;
};

std::string trimmed(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::string text_before_stop(std::span<const int32_t> ids, const Tokenizer& tokenizer) {
  const auto& stops = tokenizer.stop_ids();
  const auto end = std::find_first_of(ids.begin(), ids.end(), stops.begin(), stops.end());
  return trimmed(tokenizer.decode(ids.first(static_cast<size_t>(end - ids.begin())), true));
}

int64_t rows_to_answer(const TokenRows& rows, int64_t limit) {
  return limit > 0 ? std::min(limit, rows.size()) : rows.size();
}

bool is_trained(int32_t label) { return label != kIgnoreLabel; }

// The tokens before the first label.
int64_t prompt_length(const TokenRows& rows, int64_t row) {
  const auto labels = rows.labels(row);
  return std::find_if(labels.begin(), labels.end(), is_trained) - labels.begin();
}

Question question(const TokenRows& rows, int64_t row, const Tokenizer& tokenizer) {
  const auto ids = rows.ids(row), labels = rows.labels(row);
  const auto at = static_cast<size_t>(prompt_length(rows, row));
  const auto begin = labels.begin() + static_cast<std::ptrdiff_t>(at);
  const auto end = std::find_if_not(begin, labels.end(), is_trained);
  return {{ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(at)},
          text_before_stop(labels.subspan(at, static_cast<size_t>(end - begin)), tokenizer)};
}

}  // namespace

void for_each_batch(ShardedModel& model, const Split& split, int64_t micro, int64_t pad_id,
                    const std::function<void(const Batch&)>& visit) {
  const Mesh& mesh = model.mesh();
  Sampler sampler(split.packing.size(), {.total = micro * mesh.num_data_ranks(),
                                         .micro = micro,
                                         .rank = mesh.data_rank(),
                                         .world = mesh.num_data_ranks(),
                                         .shuffle = false,
                                         .remainder = Remainder::pad});
  while (sampler.next())
    for (const auto& ids : sampler.micro_batches())
      visit(
          own_part(make_batch(*split.rows, split.packing, ids, pad_id, kLengthMultiple), model.context_axis(), pad_id));
}

Evaluation evaluate_loss(ShardedModel& model, const Split& split, int64_t micro, int64_t pad_id) {
  ProcessGroup& group = model.mesh().loss_group();
  double loss = 0, tokens = 0;
  for_each_batch(model, split, micro, pad_id, [&](const Batch& batch) {
    const MicroBatch made = micro_batch(batch, model.context_axis(), model.device()->where());
    loss += model.schedule().forward(made.tokens, made.context).item<double>();
    tokens += static_cast<double>(batch.num_targets);
  });
  const double total = group.sum(tokens);
  return {.loss = group.sum(loss) / std::max(1.0, total), .tokens = static_cast<int64_t>(total)};
}

PromptsAtOnce prompts_at_once(const TokenRows& rows, int64_t limit, int ranks) {
  const int64_t count = rows_to_answer(rows, limit);
  PromptsAtOnce most{.count = std::min(kPromptsAtOnce, (count + ranks - 1) / ranks)};
  for (int64_t row = 0; row < count; ++row) most.longest = std::max(most.longest, prompt_length(rows, row));
  return most;
}

Evaluation evaluate_answers(ShardedModel& model, const TokenRows& rows, const Tokenizer& tokenizer,
                            const EvaluateOptions& options) {
  ProcessGroup& group = model.mesh().data_group();
  const int64_t count = rows_to_answer(rows, options.limit);
  const int64_t stride = kPromptsAtOnce * group.size();
  GenerateOptions decoding{.max_new_tokens = options.max_new_tokens, .stop = tokenizer.stop_ids()};
  double right = 0;
  for (int64_t base = 0; base < count; base += stride) {
    // The same number of prompts on every rank: one without a row of its own repeats the last, and does not count it.
    const int64_t each = (std::min(stride, count - base) + group.size() - 1) / group.size();
    std::vector<std::vector<int32_t>> prompts;
    std::vector<std::string> wanted;
    for (int64_t i = 0; i < each; ++i) {
      const int64_t row = base + group.rank() * each + i;
      Question asked = question(rows, std::min(row, count - 1), tokenizer);
      prompts.push_back(std::move(asked.prompt));
      if (row < count) wanted.push_back(std::move(asked.answer));
    }
    const auto answers = generate(model, prompts, decoding);
    for (size_t i = 0; i < wanted.size(); ++i) right += text_before_stop(answers[i], tokenizer) == wanted[i];
  }
  return {.prompts = count, .exact_match = group.sum(right) / std::max<double>(1, static_cast<double>(count))};
}

}  // namespace ft
