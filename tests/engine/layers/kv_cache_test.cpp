// Decoding with a cache against the whole forward, for prompts of different lengths in one batch.
#include "engine/layers/kv_cache.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "engine/error/error.h"
#include "tests/engine/layers/model_fixture.h"

namespace ft::testing {
namespace {

Value config() {
  return Value::map({{"model_type", "llama"},
                     {"hidden_size", 32},
                     {"intermediate_size", 48},
                     {"num_hidden_layers", 2},
                     {"num_attention_heads", 4},
                     {"num_key_value_heads", 2},
                     {"vocab_size", 61},
                     {"rms_norm_eps", 1e-6},
                     {"rope_parameters", Value::map({{"rope_theta", 10000.0}})}});
}

// @param window of the second layer; 0: none
void expect_steps(int64_t window) {
  Value description = describe_model(config());
  description.find("layers")->as_list()[1].find("blocks")->as_list()[0].find("blocks")->as_list()[1].set("window",
                                                                                                         window);
  Model model(description, {});
  fill(model);
  const std::vector<int64_t> prompts{7, 3, 5};
  const at::Tensor tokens = golden_batch(3, 12, 61).tokens;
  std::vector<at::Tensor> want;  // each row alone, all of its tokens
  for (int64_t row = 0; row < 3; ++row)
    want.push_back(forward(model, {tokens.narrow(0, row, 1), packed_context({{12}})})[0]);

  KvCache cache(3, 12);
  std::vector<int64_t> done(3, 0);
  // The prompts, padded on the right; then single tokens; then two at a time.
  for (const std::vector<int64_t>& counts :
       {prompts, std::vector<int64_t>{1, 1, 1}, std::vector<int64_t>{1, 0, 1}, std::vector<int64_t>{2, 2, 1}}) {
    const int64_t width = *std::max_element(counts.begin(), counts.end());
    Batch batch;
    batch.tokens = at::zeros({3, width}, at::kLong);
    for (int64_t row = 0; row < 3; ++row)
      batch.tokens[row].narrow(0, 0, counts[row]).copy_(tokens[row].narrow(0, done[row], counts[row]));
    batch.context.positions = cache.next_positions(width);
    batch.context.cache = &cache;
    const at::Tensor got = forward(model, batch);
    for (int64_t row = 0; row < 3; ++row)
      for (int64_t t = 0; t < counts[row]; ++t)
        EXPECT_LT(got[row][t].sub(want[row][done[row] + t]).abs().max().item<double>(), 1e-5)
            << "row " << row << " token " << done[row] + t;
    cache.advance(counts);
    for (int64_t row = 0; row < 3; ++row) done[row] += counts[row];
    EXPECT_EQ(cache.lengths(), done);
  }
}

TEST(KvCache, StepsEqualTheWholeForward) { expect_steps(0); }

// Shorter and longer than a prompt, and than all but the last tokens.
TEST(KvCache, StepsEqualTheWholeForwardUnderAWindow) {
  for (const int64_t window : {1, 2, 4, 7, 11}) expect_steps(window);
}

TEST(KvCache, CountsNoMoreThanItHolds) {
  KvCache cache(2, 4);
  cache.advance({4, 3});
  EXPECT_THROW(cache.advance({1, 0}), Error);
}

}  // namespace
}  // namespace ft::testing
