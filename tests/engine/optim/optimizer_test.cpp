#include "engine/optim/optimizer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/device/cpu_features.h"
#include "engine/error/error.h"
#include "engine/quant/block8.h"

namespace ft {
namespace {

Value adamw(int bits) {
  return Value::map(
      {{"kind", "adamw"}, {"bits", bits}, {"betas", Value::list({0.9, 0.95})}, {"eps", 1e-6}, {"weight_decay", 0.1}});
}
Value sgd(double momentum) { return Value::map({{"kind", "sgd"}, {"momentum", momentum}}); }

at::Tensor normal(int64_t count, unsigned seed, float scale) {
  at::Tensor out = at::empty({count}, at::kFloat);
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> distribution(0, scale);
  std::generate_n(out.data_ptr<float>(), count, [&] { return distribution(engine); });
  return out;
}

// A parameter of `numel` elements as one rank's or several ranks' pieces, cut at `cuts`.
struct Cut {
  at::Tensor master, grad;
  std::vector<std::unique_ptr<Optimizer>> ranks;

  Cut(const Value& description, int64_t numel, std::vector<int64_t> cuts, bool decay = true) {
    master = normal(numel, 1, 0.1f);
    grad = at::zeros({numel}, at::kFloat);
    cuts.insert(cuts.begin(), 0);
    cuts.push_back(numel);
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      const int64_t count = cuts[i + 1] - cuts[i];
      ranks.push_back(build_optimizer(description, {{"w", numel, cuts[i], count, master.narrow(0, cuts[i], count),
                                                     grad.narrow(0, cuts[i], count), decay}}));
    }
  }
  void step(unsigned seed, double lr) {
    grad.copy_(normal(grad.numel(), seed, 0.01f));
    for (auto& rank : ranks) rank->step(lr);
  }
  // The state under `key` of all ranks, put together by the ranges that they state.
  at::Tensor state(const std::string& key) {
    std::vector<StateTensor> found;
    int64_t entries = 0;
    for (auto& rank : ranks)
      for (StateTensor& tensor : rank->state())
        if (tensor.key == key) {
          entries += tensor.count;
          found.push_back(std::move(tensor));
        }
    if (found.empty()) return {};
    at::Tensor whole = at::empty({entries}, found[0].value.options());
    for (const StateTensor& tensor : found) whole.narrow(0, tensor.begin, tensor.count).copy_(tensor.value);
    return whole;
  }
};

const char* const kKeys[] = {"exp_avg", "exp_avg_sq", "exp_avg_scale", "exp_avg_sq_scale", "momentum_buffer"};

void expect_same(Cut& a, Cut& b) {
  EXPECT_TRUE(at::equal(a.master, b.master));
  for (const char* key : kKeys) {
    const at::Tensor left = a.state(key), right = b.state(key);
    ASSERT_EQ(left.defined(), right.defined()) << key;
    if (left.defined()) {
      EXPECT_TRUE(at::equal(left, right)) << key;
    }
  }
}

Value lion() { return Value::map({{"kind", "lion"}, {"weight_decay", 0.1}}); }
Value nesterov() { return Value::map({{"kind", "sgd"}, {"momentum", 0.9}, {"nesterov", true}, {"weight_decay", 0.1}}); }

std::vector<Value> all_kinds() { return {adamw(32), adamw(8), sgd(0), sgd(0.9), nesterov(), lion()}; }

TEST(Optimizer, DoesNotShowHowATensorIsCut) {
  for (const Value& description : all_kinds()) {
    for (const int64_t numel : {int64_t{256 * 21 + 77}, int64_t{256 * 70}, int64_t{3000}}) {
      SCOPED_TRACE(describe(description) + " of " + std::to_string(numel));
      Cut one(description, numel, {}), two(description, numel, {1024}), four(description, numel, {256, 1280, 2560});
      for (unsigned step = 1; step <= 10; ++step)
        for (Cut* cut : {&one, &two, &four}) cut->step(step, 1e-2);
      expect_same(one, two);
      expect_same(one, four);
    }
  }
}

TEST(Optimizer, DoesNotShowTheNumberOfThreads) {
  const int before = at::get_num_threads();
  for (const Value& description : all_kinds()) {
    Cut one(description, 100007, {}), three(description, 100007, {});
    for (unsigned step = 1; step <= 3; ++step) {
      at::set_num_threads(1);
      one.step(step, 1e-2);
      at::set_num_threads(3);
      three.step(step, 1e-2);
    }
    at::set_num_threads(before);
    expect_same(one, three);
  }
}

TEST(Optimizer, DoesNotShowTheInstructionSet) {
  for (const Value& description : {adamw(8), sgd(0), sgd(0.9), nesterov(), lion()}) {
    Cut best(description, 70000, {}), avx2(description, 70000, {}), scalar(description, 70000, {});
    for (unsigned step = 1; step <= 10; ++step) {
      best.step(step, 1e-2);
      limit_cpu_isa(Isa::avx2);
      avx2.step(step, 1e-2);
      limit_cpu_isa(Isa::scalar);
      scalar.step(step, 1e-2);
      limit_cpu_isa(Isa::avx512);
    }
    expect_same(best, scalar);
    expect_same(avx2, scalar);
  }
}

float noise(int64_t seed, int64_t i) {
  return static_cast<float>(static_cast<double>((seed * 131 + i * 7919) % 1009) / 1009 - 0.5);
}

TEST(Optimizer, FollowsTorch) {
  std::ifstream file(std::string(FT_GOLDEN_DIR) + "/optim.json");
  const auto golden = nlohmann::json::parse(file).at("trajectories");
  // 300 elements: adamw with 8 bits keeps fp32 state here, so that all four follow the same fp64 trajectories.
  const std::pair<std::string, Value> rows[] = {
      {"adamw", adamw(32)}, {"adamw", adamw(8)}, {"sgd", sgd(0)}, {"sgd_momentum", sgd(0.9)}};
  for (const auto& [name, description] : rows) {
    SCOPED_TRACE(describe(description));
    Cut cut(description, 300, {});
    for (int64_t i = 0; i < 300; ++i) cut.master.data_ptr<float>()[i] = noise(0, i);
    for (int64_t step = 1; step <= 6; ++step) {
      for (int64_t i = 0; i < 300; ++i) cut.grad.data_ptr<float>()[i] = noise(step, i);
      cut.ranks[0]->step(0.01);
    }
    for (int64_t i = 0; i < 300; ++i)
      EXPECT_NEAR(cut.master.data_ptr<float>()[i], golden.at(name)[static_cast<size_t>(i)].get<double>(), 3e-7) << i;
  }
}

TEST(Optimizer, KeepsSmallTensorsInFp32HoweverTheyAreCut) {
  Cut small(adamw(8), 4095, {256, 512}), large(adamw(8), 4096, {256, 512});
  EXPECT_EQ(small.state("exp_avg").scalar_type(), at::kFloat);
  EXPECT_FALSE(small.state("exp_avg_scale").defined());
  EXPECT_EQ(large.state("exp_avg").scalar_type(), at::kByte);
  EXPECT_EQ(large.state("exp_avg_sq_scale").numel(), 16);
  EXPECT_EQ(large.ranks[0]->state_bytes(), 2 * (256 + 4));
}

// bitsandbytes tests/test_optim.py, test_optimizer8bit: both start each step from the same parameters and state.
class Gates : public testing::TestWithParam<std::tuple<int64_t, float>> {};
INSTANTIATE_TEST_SUITE_P(ShapesAndScales, Gates,
                         testing::Combine(testing::Values(1024 * 1024, 32 * 4097, 4096, 8192 + 300),
                                          testing::Values(0.01f, 1e-5f)));

TEST_P(Gates, OfBitsandbytesHold) {
  const auto [numel, grad_scale] = GetParam();
  Cut exact(adamw(32), numel, {}), blocks(adamw(8), numel, {});
  for (unsigned step = 1; step <= (numel > 100000 ? 30u : 100u); ++step) {
    const at::Tensor grad = normal(numel, step, grad_scale);
    for (Cut* cut : {&exact, &blocks}) {
      cut->grad.copy_(grad);
      cut->ranks[0]->step(1e-3);
    }
    double error = 0, relative = 0;
    for (int64_t i = 0; i < numel; ++i) {
      const double want = exact.master.data_ptr<float>()[i], got = blocks.master.data_ptr<float>()[i];
      error += std::fabs(got - want);
      relative += std::fabs(got - want) / (std::fabs(want) + 1e-9);
    }
    ASSERT_LT(error / static_cast<double>(numel), 6e-5) << step;
    ASSERT_LT(relative / static_cast<double>(numel), 6e-4) << step;
    blocks.master.copy_(exact.master);
    for (const auto& [key, map] :
         {std::pair{"exp_avg", Map8::with_sign}, std::pair{"exp_avg_sq", Map8::without_sign}}) {
      const at::Tensor codes = blocks.state(key), scales = blocks.state(std::string(key) + "_scale");
      at::Tensor truth;
      for (StateTensor& tensor : exact.ranks[0]->state())
        if (tensor.key == key) truth = tensor.value;
      int64_t outliers = 0;
      for (int64_t b = 0; b < (numel + kBlock8 - 1) / kBlock8; ++b) {
        float value[kBlock8];
        const int64_t count = std::min(kBlock8, numel - b * kBlock8);
        dequantize_block8(map, codes.data_ptr<uint8_t>() + b * kBlock8, scales.data_ptr<float>()[b], count, value);
        for (int64_t i = 0; i < count; ++i) {
          float& want = truth.data_ptr<float>()[b * kBlock8 + i];
          outliers += std::fabs(value[i] - want) > 3e-3 + 1e-3 * std::fabs(want);
          want = value[i];
        }
      }
      ASSERT_LT(outliers, 20) << key;
    }
  }
}

// One step from a state of its own, in fp64 and torchao's order: decay first, then the step.
TEST(Optimizer, TakesAnEightBitStepOfTheOracle) {
  const int64_t numel = 8192;
  const double lr = 0.1;
  Cut cut(adamw(8), numel, {});
  for (unsigned step = 1; step <= 3; ++step) cut.step(step, lr);
  const at::Tensor before = cut.master.clone();
  std::vector<float> m(numel), v(numel);
  const auto read = [&](const std::string& key, Map8 map, std::vector<float>& out) {
    const at::Tensor codes = cut.state(key), scales = cut.state(key + "_scale");
    for (int64_t b = 0; b < numel / kBlock8; ++b)
      dequantize_block8(map, codes.data_ptr<uint8_t>() + b * kBlock8, scales.data_ptr<float>()[b], kBlock8,
                        out.data() + b * kBlock8);
  };
  read("exp_avg", Map8::with_sign, m);
  read("exp_avg_sq", Map8::without_sign, v);
  cut.step(4, lr);
  std::vector<float> m_after(numel), v_after(numel);
  read("exp_avg", Map8::with_sign, m_after);
  read("exp_avg_sq", Map8::without_sign, v_after);
  const at::Tensor m_scale = cut.state("exp_avg_scale"), v_scale = cut.state("exp_avg_sq_scale");
  const double c1 = 1 - std::pow(0.9, 4), c2 = 1 - std::pow(0.95, 4);
  for (int64_t i = 0; i < numel; ++i) {
    const double g = cut.grad.data_ptr<float>()[i], p = before.data_ptr<float>()[i];
    const auto at = static_cast<size_t>(i);
    const double mean = 0.9 * m[at] + 0.1 * g, square = 0.95 * v[at] + 0.05 * g * g;
    const double want = p * (1 - lr * 0.1) - lr * (mean / c1) / (std::sqrt(square) / std::sqrt(c2) + 1e-6);
    ASSERT_NEAR(cut.master.data_ptr<float>()[i], want, 1e-6 * std::max(1.0, std::fabs(want))) << i;
    // Half the widest gap of each map, as a share of its block's scale.
    const auto block = i / kBlock8;
    ASSERT_NEAR(m_after[at], mean, 0.00704 * m_scale.data_ptr<float>()[block]);
    ASSERT_NEAR(v_after[at], square, 0.00353 * v_scale.data_ptr<float>()[block]);
  }
}

TEST(Optimizer, EightBitsTrainLikeThirtyTwo) {
  Cut exact(adamw(32), 16384, {}), blocks(adamw(8), 16384, {});
  const at::Tensor start = exact.master.clone();
  for (unsigned step = 1; step <= 100; ++step) {
    exact.step(step, 1e-3);
    blocks.step(step, 1e-3);
  }
  double moved = 0, apart = 0;
  for (int64_t i = 0; i < 16384; ++i) {
    moved += std::pow(exact.master.data_ptr<float>()[i] - start.data_ptr<float>()[i], 2);
    apart += std::pow(exact.master.data_ptr<float>()[i] - blocks.master.data_ptr<float>()[i], 2);
  }
  EXPECT_LT(std::sqrt(apart / moved), 0.03);
}

TEST(Optimizer, ResumesOnAnotherLayout) {
  for (const Value& description : all_kinds()) {
    SCOPED_TRACE(describe(description));
    const int64_t numel = 256 * 40 + 3;
    Cut one(description, numel, {}), four(description, numel, {256, 2560, 7680});
    for (unsigned step = 1; step <= 5; ++step) one.step(step, 1e-2);
    four.master.copy_(one.master);
    for (auto& rank : four.ranks) {
      rank->steps = one.ranks[0]->steps;
      for (StateTensor& tensor : rank->state())
        tensor.value.copy_(one.state(tensor.key).narrow(0, tensor.begin, tensor.count));
    }
    for (unsigned step = 6; step <= 8; ++step) {
      one.step(step, 1e-2);
      four.step(step, 1e-2);
    }
    expect_same(one, four);
  }
}

TEST(Optimizer, DecaysOnlyWhatAsksForIt) {
  for (const int bits : {32, 8}) {
    Cut with(adamw(bits), 8192, {}), without(adamw(bits), 8192, {}, /*decay=*/false);
    const at::Tensor start = with.master.clone();
    for (Cut* cut : {&with, &without}) cut->ranks[0]->step(0.5);  // zero gradients: nothing but decay moves
    EXPECT_TRUE(at::equal(without.master, start));
    for (int64_t i = 0; i < 8192; ++i)
      ASSERT_NEAR(with.master.data_ptr<float>()[i], 0.95 * start.data_ptr<float>()[i], 1e-7);
  }
}

TEST(Optimizer, TakesEmptyPieces) {
  for (const Value& description : all_kinds()) {
    auto optimizer = build_optimizer(description, {{"w", 4096, 0, 0, {}, {}, true}});
    optimizer->step(0.1);
    EXPECT_EQ(optimizer->steps, 1);
    EXPECT_TRUE(optimizer->state().empty());
  }
}

// Parameters of several sizes, groups with rates of their own, empty pieces: in whatever parts a step is taken.
TEST(Optimizer, TakesAStepInParts) {
  for (Value description : all_kinds()) {
    SCOPED_TRACE(describe(description));
    description.set("groups", Value::list({Value::map({{"pattern", "1"}, {"lr_scale", 0.5}})}));
    const std::vector<int64_t> sizes{5000, 300, 0, 4096, 256, 9000};
    const auto pieces = [&] {
      std::vector<OptimizerPiece> all;
      for (size_t i = 0; i < sizes.size(); ++i)
        all.push_back({"w" + std::to_string(i), std::max<int64_t>(sizes[i], 1), 0, sizes[i],
                       normal(sizes[i], static_cast<unsigned>(i), 0.1f), normal(sizes[i], 100, 0.01f)});
      return all;
    };
    const std::vector<OptimizerPiece> one = pieces(), other = pieces();
    const auto whole = build_optimizer(description, one), made = build_optimizer(description, other);
    auto* parts = dynamic_cast<ElementwiseOptimizer*>(made.get());
    ASSERT_TRUE(parts);
    ASSERT_EQ(parts->num_pieces(), sizes.size());
    for (int step = 1; step <= 3; ++step) {
      whole->step(1e-2);
      parts->begin_step(1e-2);
      for (const auto& [first, count] : {std::pair<size_t, size_t>{4, 2}, {3, 1}, {0, 3}})
        parts->step_pieces(first, count);
      EXPECT_EQ(parts->steps, step);
    }
    for (size_t i = 0; i < sizes.size(); ++i) EXPECT_TRUE(at::equal(one[i].master, other[i].master)) << i;
    const auto left = whole->state(), right = made->state();
    ASSERT_EQ(left.size(), right.size());
    for (size_t i = 0; i < left.size(); ++i) EXPECT_TRUE(at::equal(left[i].value, right[i].value)) << left[i].name;
  }
}

TEST(Optimizer, RefusesWhatItDoesNotKnow) {
  const auto message = [](const Value& description) {
    try {
      build_optimizer(description, {});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(message(Value::map({{"kind", "adagrad"}})), testing::HasSubstr("optimizer.kind: got 'adagrad'"));
  EXPECT_THAT(message(Value::map({{"kind", "adamw"}, {"bits", 4}})), testing::HasSubstr("want 32 or 8"));
  EXPECT_THAT(message(Value::map({{"kind", "adamw"}, {"betas", Value::list({0.9, 1.0})}})),
              testing::HasSubstr("optimizer.betas"));
  EXPECT_THAT(message(sgd(1.5)), testing::HasSubstr("optimizer.momentum"));
  const at::Tensor part = at::zeros({100}, at::kFloat);
  EXPECT_THROW(build_optimizer(adamw(8), {{"w", 4096, 0, 100, part, part, true}}), Error);
}

// A factor of a power of two, so that dividing by its inverse is the same to the bit; it holds for one step.
TEST(Optimizer, ScalesGradientsInItsOwnPass) {
  Cut scaled(adamw(32), 1000, {}), plain(adamw(32), 1000, {});
  for (unsigned step = 1; step <= 3; ++step) {
    const at::Tensor gradient = normal(1000, step, 0.01f);
    const double factor = step == 2 ? 0.25 : 1;
    scaled.grad.copy_(gradient);
    plain.grad.copy_(gradient.mul(factor));
    if (step == 2) {
      ASSERT_TRUE(scaled.ranks[0]->scale_gradients(factor));
    }
    scaled.ranks[0]->step(1e-2);
    plain.ranks[0]->step(1e-2);
    EXPECT_TRUE(scaled.master.equal(plain.master)) << step;
  }
  EXPECT_FALSE(Cut(sgd(0.9), 256, {}).ranks[0]->scale_gradients(0.5));
}

}  // namespace
}  // namespace ft
