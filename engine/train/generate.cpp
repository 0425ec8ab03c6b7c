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

int64_t longest_of(const std::vector<std::vector<int32_t>>& rows) {
  size_t longest = 0;
  for (const auto& row : rows) longest = std::max(longest, row.size());
  return static_cast<int64_t>(longest);
}

// Rows side by side, padded on the right.
struct Padded {
  at::Tensor tokens;             // [B, longest]
  std::vector<int64_t> lengths;  // of each row

  explicit Padded(const std::vector<std::vector<int32_t>>& rows) {
    for (const auto& row : rows) lengths.push_back(static_cast<int64_t>(row.size()));
    const int64_t longest = longest_of(rows);
    tokens = at::empty({static_cast<int64_t>(rows.size()), longest}, at::kLong);
    auto* out = tokens.data_ptr<int64_t>();
    for (const auto& row : rows) {
      std::copy(row.begin(), row.end(), out);
      std::fill(out + row.size(), out + longest, row.back());  // any id: padding is never attended to
      out += longest;
    }
  }
};

// Whether the last token made a row so long that all angles are others: as in transformers, which then runs the whole
// row once more (Phi3ForCausalLM.prepare_inputs_for_generation).
bool angles_change(const Model& model, int64_t length) {
  const auto& switches = model.angle_switches();
  return std::find(switches.begin(), switches.end(), length - 1) != switches.end();
}

}  // namespace

std::vector<std::vector<int32_t>> generate(ShardedModel& model, const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateOptions& options) {
  for (const auto& prompt : prompts)
    if (prompt.empty()) throw Error(ErrorKind::config, "got an empty prompt, want at least one token");
  const auto rows = static_cast<int64_t>(prompts.size());
  const at::Device device = model.device()->where();
  const int64_t capacity = longest_of(prompts) + options.max_new_tokens;
  KvCache cache(rows, capacity);
  std::vector<std::vector<int32_t>> seen = prompts;  // and what followed, after a row's end too
  const CounterRandom random(options.seed, "generate");
  std::vector<std::vector<int32_t>> answers(prompts.size());
  std::vector<bool> done(prompts.size(), false);
  Padded next(prompts);
  for (int64_t step = 0; step < options.max_new_tokens; ++step) {
    Context context;
    context.cache = &cache;
    context.positions = cache.next_positions(next.tokens.size(1)).to(device);
    context.last = at::empty({rows}, at::kLong);
    for (int64_t row = 0; row < rows; ++row) context.last.data_ptr<int64_t>()[row] = next.lengths[row] - 1;
    context.last = context.last.to(device);
    const at::Tensor logits =
        model.schedule().forward(next.tokens.to(device), context).cpu().contiguous();  // [B, 1, V]
    cache.advance(next.lengths);

    const int64_t vocab = logits.size(-1);
    std::vector<std::vector<int32_t>> made(prompts.size());
    for (int64_t row = 0; row < rows; ++row) {
      const float* of_row = logits.data_ptr<float>() + row * vocab;
      const double draw = random.uniform(static_cast<uint64_t>(row * options.max_new_tokens + step));
      const int32_t token = options.temperature > 0 ? sample(of_row, vocab, options, draw) : greedy(of_row, vocab);
      made[row] = {token};
      seen[row].push_back(token);
      if (done[row]) continue;
      answers[row].push_back(token);
      done[row] = std::find(options.stop.begin(), options.stop.end(), token) != options.stop.end();
    }
    const bool anew = angles_change(model.model(), longest_of(seen));
    if (anew) cache = KvCache(rows, capacity);
    next = Padded(anew ? seen : made);
    const bool all_done = std::all_of(done.begin(), done.end(), [](bool d) { return d; });
    if (model.group().max(all_done ? 0 : 1) == 0) break;
  }
  return answers;
}

}  // namespace ft
