// Which part of a model a tensor rank has, what is refused, and the ops that know of a part. That the parts make up the
// whole in training is shown on several ranks (tests/ranks/tensor_parallel_test.cpp).
#include "engine/layers/tensor_axis.h"

#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scalar_tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "engine/error/error.h"
#include "engine/layers/linear.h"
#include "engine/layers/model.h"
#include "engine/layers/vocab_parallel.h"
#include "tests/ranks/tiny_model.h"
#include "tests/thrown.h"

namespace ft::test {
namespace {

using ::testing::HasSubstr;

ModelOptions on_rank(int64_t rank, int64_t size, const LoraOptions* lora = nullptr, bool nf4 = false) {
  ModelOptions options;
  options.tensor = {rank, size, nullptr};
  options.lora = lora;
  options.quantize_nf4 = nf4;
  return options;
}

TinySizes even(std::vector<int64_t> hidden) {
  TinySizes sizes{.vocab = 100, .dim = 64, .heads = 4, .kv_heads = 2, .head_dim = 64};
  sizes.hidden = std::move(hidden);
  return sizes;
}

const Parameter& named(Model& model, const std::string& name) {
  for (const Parameter* p : model.parameters())
    if (p->name == name) return *p;
  throw Error(ErrorKind::internal, "no parameter " + name);
}

TEST(TensorAxis, PartsMakeUpTheWholeModel) {
  const LoraOptions lora{.r = 4};
  for (const LoraOptions* adapter : {static_cast<const LoraOptions*>(nullptr), &lora}) {
    Model whole(tiny_decoder(false, even({128, 128})), on_rank(0, 1, adapter));
    for (const int64_t size : {2, 4}) {
      std::vector<int64_t> covered(whole.parameters().size(), 0);
      for (int64_t rank = 0; rank < size; ++rank) {
        Model part(tiny_decoder(false, even({128, 128})), on_rank(rank, size, adapter));
        for (size_t i = 0; i < covered.size(); ++i) {
          const Parameter &own = *part.parameters()[i], &all = *whole.parameters()[i];
          EXPECT_EQ(own.name, all.name);
          EXPECT_EQ(own.full_shape(), all.shape) << own.name;
          EXPECT_EQ(own.slice.parts * own.slice.copies, size) << own.name;
          EXPECT_EQ(own.slice.index * own.slice.copies + own.slice.copy, rank) << own.name;
          EXPECT_EQ(own.init.scale, all.init.scale) << own.name;
          if (own.slice.copy == 0) covered[i] += own.numel();
        }
      }
      for (size_t i = 0; i < covered.size(); ++i)
        EXPECT_EQ(covered[i], whole.parameters()[i]->numel()) << whole.parameters()[i]->name;
    }
  }
}

TEST(TensorAxis, CutsRowsOfWhatMakesFeaturesAndColumnsOfWhatTakesThem) {
  const LoraOptions lora{.r = 4};
  Model model(tiny_decoder(true, even({128})), on_rank(3, 4, &lora));
  const auto slice = [&](const char* name) {
    const Parameter& p = named(model, std::string("model.layers.0.") + name);
    return std::vector<int64_t>{static_cast<int64_t>(p.slice.dim), p.slice.index, p.slice.parts, p.slice.copies};
  };
  EXPECT_EQ(slice("self_attn.q_proj.weight"), (std::vector<int64_t>{0, 3, 4, 1}));
  EXPECT_EQ(slice("self_attn.k_proj.weight"), (std::vector<int64_t>{0, 1, 2, 2})) << "two ranks share a head";
  EXPECT_EQ(slice("self_attn.k_proj.lora_A.weight"), (std::vector<int64_t>{0, 0, 1, 4}));
  EXPECT_EQ(slice("self_attn.k_proj.lora_B.weight"), (std::vector<int64_t>{0, 1, 2, 2}));
  EXPECT_EQ(slice("self_attn.o_proj.weight"), (std::vector<int64_t>{1, 3, 4, 1}));
  EXPECT_EQ(slice("mlp.down_proj.lora_A.weight"), (std::vector<int64_t>{1, 3, 4, 1}));
  EXPECT_EQ(slice("mlp.down_proj.lora_B.weight"), (std::vector<int64_t>{0, 0, 1, 4}));
  EXPECT_EQ(slice("input_layernorm.weight"), (std::vector<int64_t>{0, 0, 1, 4}));
  EXPECT_EQ(model.vocab_size(), 100);
}

std::string refusal(const TinySizes& sizes, int64_t ranks, bool nf4 = false, bool tied = true) {
  const LoraOptions lora{.r = 4};
  return test::refusal([&] { Model model(tiny_decoder(tied, sizes), on_rank(0, ranks, &lora, nf4)); });
}

TEST(TensorAxis, RefusesWhatDoesNotDivideAndSaysWhatWould) {
  EXPECT_THAT(refusal(even({128}), 3),
              HasSubstr("model.embed_tokens: 100 rows of the vocabulary cannot be shared out evenly over 3"));
  EXPECT_THAT(refusal(even({128}), 3), HasSubstr("these sizes fit here: 2, 4, 5, 10, 20, 25, 50, 100"));
  TinySizes heads = even({128});
  heads.vocab = 96;
  EXPECT_THAT(refusal(heads, 3), HasSubstr("self_attn: 4 heads with 2 key-value heads cannot be shared out"));
  EXPECT_THAT(refusal(heads, 8), HasSubstr("these sizes fit here: 2, 4;"));
  EXPECT_THAT(refusal(even({127}), 2), HasSubstr("mlp: 127 hidden features cannot be shared out"));
  EXPECT_THAT(refusal(even({127}), 2), HasSubstr("parallel.tensor_parallel_size"));
  EXPECT_EQ(refusal(even({128}), 4), "was taken");
  EXPECT_EQ(refusal(uneven_sizes(), 1), "was taken");
  EXPECT_NE(refusal(uneven_sizes(), 2), "was taken");
}

TEST(TensorAxis, RefusesToCutBlocksOfNf4) {
  EXPECT_EQ(refusal(even({128}), 2, true), "was taken");
  const std::string said = refusal(even({192, 96}), 2, true);
  EXPECT_THAT(said, HasSubstr("model.layers.0.mlp.down_proj: the NF4 weight [64, 192], whose blocks are of 64 "
                              "elements and whose columns would be cut at 96"));
  EXPECT_THAT(said, HasSubstr("these sizes fit here: 3"));
  EXPECT_THAT(refusal(even({64}), 2, true), HasSubstr("no size fits"));
}

TEST(TensorAxis, ModulesInLuaAreRefused) {
  Value description = tiny_decoder(true, even({128}));
  description.find("layers")->as_list()[0] = Value::map({{"type", "lua"}, {"name", "model.layers.0"}});
  EXPECT_THAT(test::refusal([&] { Model model(description, on_rank(0, 2)); }),
              HasSubstr("its forward is Lua, which tensor parallelism cannot share out"));
}

TEST(TensorAxis, FeaturesFallAsTheyDoInTheWhole) {
  const at::Tensor x = at::randn({3, 40}), keys = at::randint(INT64_MIN, INT64_MAX, {3}, at::kLong);
  const at::Tensor whole = ops::counter_dropout(x, keys, 0.4);
  for (const int64_t first : {0, 7, 25}) {
    const at::Tensor part = ops::counter_dropout(x.narrow(1, first, 15), keys_from_feature(keys, first), 0.4);
    EXPECT_TRUE(part.equal(whole.narrow(1, first, 15))) << first;
  }
  EXPECT_FALSE(ops::counter_dropout(x.narrow(1, 7, 15), keys, 0.4).equal(whole.narrow(1, 7, 15)));
}

// One rank's vocabulary is all of it: the loss and every gradient are those of the op without parts.
TEST(VocabParallel, IsTheLossOfOneRank) {
  const auto alone = ProcessGroup::single();
  const TensorAxis axis{0, 1, alone.get()};
  at::Tensor x = at::randn({2, 9, 16}), w = at::randn({40, 16}), low = at::randn({2, 9, 3}), up = at::randn({40, 3});
  at::Tensor targets = at::randint(0, 40, {2, 9}, at::kLong);
  targets.index_put_({at::randint(0, 2, {5}, at::kLong), at::randint(0, 9, {5}, at::kLong)},
                     at::scalar_tensor(-100, at::kLong));
  for (at::Tensor* leaf : {&x, &w, &low, &up}) leaf->requires_grad_(true);
  const auto gradients = [&](const at::Tensor& loss) {
    return torch::autograd::grad({loss}, {x, w, low, up}, {at::scalar_tensor(0.5)});
  };
  const at::Tensor want = ops::linear_cross_entropy(x, w, targets, 0.25, "", {low, up});
  const at::Tensor got = vocab_parallel_cross_entropy(x, w, targets, {.scale = 0.25}, {low, up}, axis);
  EXPECT_LE(std::abs(got.item<double>() / want.item<double>() - 1), 1e-6);
  const auto expected = gradients(want), found = gradients(got);
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_LE(found[i].sub(expected[i]).norm().item<double>(), 2e-6 * expected[i].norm().item<double>()) << i;
}

TEST(VocabParallel, RefusesIdsThatNoRankHas) {
  const auto alone = ProcessGroup::single();
  const TensorAxis axis{0, 1, alone.get()};
  const at::Tensor w = at::randn({10, 4});
  const at::Tensor ids = at::full({1, 2}, 10, at::kLong);
  EXPECT_THAT(test::refusal([&] { vocab_parallel_embedding(w, ids, at::kFloat, "e", axis); }),
              HasSubstr("got token 10, want an id below 10"));
  EXPECT_THAT(test::refusal([&] {
                vocab_parallel_cross_entropy(at::randn({1, 2, 4}), w, ids, {}, {}, axis);
              }),
              HasSubstr("got target 10, want an id below 10"));
}

}  // namespace
}  // namespace ft::test
