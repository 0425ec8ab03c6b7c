#include "engine/train/generate.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/error/error.h"
#include "engine/layers/kv_cache.h"
#include "engine/tensor/counter_random.h"

namespace ft {
namespace {

int32_t greedy(const float* logits, int64_t vocab) {
  return static_cast<int32_t>(std::max_element(logits, logits + vocab) - logits);
}

// Temperature, then top-k, then top-p, as transformers' logits warpers come in order. `draw` is uniform in [0, 1).
int32_t sample(const float* logits, int64_t vocab, const GenerateOptions& options, double draw) {
  std::vector<int32_t> order(static_cast<size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  const auto kept = options.top_k > 0 ? std::min(options.top_k, vocab) : vocab;
  // Ties go by id, so that the order is the same everywhere.
  std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                    [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  std::vector<double> weights(static_cast<size_t>(kept));
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = std::exp((logits[order[i]] - logits[order[0]]) / options.temperature);
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  size_t nucleus = weights.size();
  double mass = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    mass += weights[i];
    if (mass >= options.top_p * total) {
      nucleus = i + 1;
      break;
    }
  }
  double left = draw * mass;
  for (size_t i = 0; i < nucleus; ++i)
    if ((left -= weights[i]) < 0) return order[i];
  return order[nucleus - 1];
}

// The prompts side by side, padded on the right.
struct Prompts {
  at::Tensor tokens;             // [B, longest]
  std::vector<int64_t> lengths;  // of each prompt

  explicit Prompts(const std::vector<std::vector<int32_t>>& prompts) {
    int64_t longest = 0;
    for (const auto& prompt : prompts) {
      if (prompt.empty()) throw Error(ErrorKind::config, "got an empty prompt, want at least one token");
      lengths.push_back(static_cast<int64_t>(prompt.size()));
      longest = std::max(longest, lengths.back());
    }
    tokens = at::empty({static_cast<int64_t>(prompts.size()), longest}, at::kLong);
    auto* out = tokens.data_ptr<int64_t>();
    for (const auto& prompt : prompts) {
      std::copy(prompt.begin(), prompt.end(), out);
      std::fill(out + prompt.size(), out + longest, prompt.back());  // any id: padding is never attended to
      out += longest;
    }
  }
};

}  // namespace

std::vector<std::vector<int32_t>> generate(ShardedModel& model, const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateOptions& options) {
  const auto rows = static_cast<int64_t>(prompts.size());
  const at::Device device = model.device()->where();
  Prompts padded(prompts);
  KvCache cache(rows, padded.tokens.size(1) + options.max_new_tokens);
  const CounterRandom random(options.seed, "generate");
  std::vector<std::vector<int32_t>> answers(prompts.size());
  std::vector<bool> done(prompts.size(), false);
  at::Tensor tokens = padded.tokens;
  std::vector<int64_t> counts = padded.lengths;
  for (int64_t step = 0; step < options.max_new_tokens; ++step) {
    Context context;
    context.cache = &cache;
    context.positions = cache.next_positions(tokens.size(1)).to(device);
    context.last = at::empty({rows}, at::kLong);
    for (int64_t row = 0; row < rows; ++row) context.last.data_ptr<int64_t>()[row] = counts[row] - 1;
    context.last = context.last.to(device);
    const at::Tensor logits = model.schedule().forward(tokens.to(device), context).cpu().contiguous();  // [B, 1, V]
    cache.advance(counts);

    const int64_t vocab = logits.size(-1);
    tokens = at::empty({rows, 1}, at::kLong);
    for (int64_t row = 0; row < rows; ++row) {
      const float* of_row = logits.data_ptr<float>() + row * vocab;
      const double draw = random.uniform(static_cast<uint64_t>(row * options.max_new_tokens + step));
      const int32_t next = options.temperature > 0 ? sample(of_row, vocab, options, draw) : greedy(of_row, vocab);
      tokens.data_ptr<int64_t>()[row] = next;
      if (done[row]) continue;
      answers[row].push_back(next);
      done[row] = std::find(options.stop.begin(), options.stop.end(), next) != options.stop.end();
    }
    counts.assign(prompts.size(), 1);
    const bool all_done = std::all_of(done.begin(), done.end(), [](bool d) { return d; });
    if (model.group().max(all_done ? 0 : 1) == 0) break;
  }
  return answers;
}

}  // namespace ft
