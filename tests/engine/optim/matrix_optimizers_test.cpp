// SGD with all its options, Lion, Adafactor and Muon: against torch's and transformers' values, on several ranks, and
// gone on from a saved state.
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/optim/muon.h"
#include "engine/optim/optimizer.h"
#include "engine/parallel/shard_layout.h"
#include "tests/ranks/ranks.h"
#include "tests/thrown.h"

namespace ft {
namespace {

float noise(int64_t seed, int64_t i) {
  return static_cast<float>(static_cast<double>((seed * 131 + i * 7919) % 1009) / 1009 - 0.5);
}

nlohmann::json golden() {
  std::ifstream file(std::string(FT_GOLDEN_DIR) + "/optim.json");
  return nlohmann::json::parse(file);
}

/// A rank's pieces of some parameters, laid out as a unit lays them out.
struct Pieces {
  std::vector<Parameter> parameters;
  std::vector<OptimizerPiece> pieces;

  Pieces(std::vector<std::pair<std::string, std::vector<int64_t>>> shapes, int rank, int ranks) {
    std::vector<Parameter*> pointers;
    for (auto& [name, shape] : shapes) {
      parameters.emplace_back();
      parameters.back().name = name;
      parameters.back().shape = shape;
    }
    for (Parameter& parameter : parameters) pointers.push_back(&parameter);
    const ShardLayout layout(pointers, 256, ranks);
    const auto owned = layout.pieces(rank);
    for (const Parameter& parameter : parameters) {
      OptimizerPiece piece;
      piece.name = parameter.name;
      piece.numel = parameter.numel();
      piece.shape = parameter.shape;
      piece.decay = parameter.shape.size() > 1;
      piece.hidden = parameter.name.find("layers") != std::string::npos;
      for (const ShardPiece& p : owned) {
        if (p.parameter != &parameter) continue;
        piece.begin = p.begin;
        piece.count = p.count;
        piece.master = at::empty({p.count}, at::kFloat);
        piece.grad = at::zeros({p.count}, at::kFloat);
        for (int64_t i = 0; i < p.count; ++i) piece.master.data_ptr<float>()[i] = noise(0, p.begin + i);
      }
      pieces.push_back(std::move(piece));
    }
  }
  void set_grads(int64_t step) {
    for (OptimizerPiece& piece : pieces)
      for (int64_t i = 0; i < piece.count; ++i) piece.grad.data_ptr<float>()[i] = noise(step, piece.begin + i);
  }
  void train(Optimizer& optimizer, int64_t first, int64_t last) {
    for (int64_t step = first; step <= last; ++step) {
      set_grads(step);
      optimizer.step(0.01);
    }
  }
};

TEST(MatrixOptimizer, FollowsTorchAndTransformers) {
  const auto rows = golden().at("matrices");
  ASSERT_EQ(rows.size(), 12u);
  for (const auto& row : rows) {
    SCOPED_TRACE(row.at("block").dump() + row.at("shape").dump());
    Pieces pieces({{"layers.0.w", row.at("shape").get<std::vector<int64_t>>()}}, 0, 1);
    pieces.pieces[0].decay = true;
    auto optimizer = build_optimizer(parse_json(row.at("block").dump(), "golden"), pieces.pieces);
    pieces.train(*optimizer, 1, 12);
    // The iteration amplifies rounding: singular values near zero grow 3.4445-fold each of its steps.
    const double bound = row.at("block").at("kind") == "muon" ? 3e-6 : 4e-7;
    const auto& values = row.at("values");
    ASSERT_EQ(values.size(), static_cast<size_t>((pieces.pieces[0].numel + 4) / 5));
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_NEAR(pieces.pieces[0].master.data_ptr<float>()[5 * i], values[i].get<double>(), bound) << 5 * i;
  }
}

TEST(MatrixOptimizer, ComesNearToMuonInBf16) {
  const auto values = golden().at("muon_as_torch_rounds");
  Pieces pieces({{"layers.0.w", {24, 40}}}, 0, 1);
  auto optimizer =
      build_optimizer(Value::map({{"kind", "muon"}, {"lr", 0.01}, {"adjust_lr_fn", "original"}}), pieces.pieces);
  pieces.train(*optimizer, 1, 12);
  double apart = 0, moved = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double got = pieces.pieces[0].master.data_ptr<float>()[5 * i];
    apart += std::pow(got - values[i].get<double>(), 2);
    moved += std::pow(got - noise(0, static_cast<int64_t>(5 * i)), 2);
  }
  EXPECT_LT(std::sqrt(apart / moved), 0.03);  // bf16 keeps 8 bits
}

TEST(MatrixOptimizer, NewtonSchulzBringsSingularValuesNearToOne) {
  at::Tensor x = at::empty({48, 20}, at::kFloat);
  for (int64_t i = 0; i < x.numel(); ++i) x.data_ptr<float>()[i] = noise(5, i * i);
  const at::Tensor values = at::linalg_svdvals(newton_schulz(x, 5, 1e-7));
  for (int64_t i = 0; i < values.numel(); ++i) {
    EXPECT_GT(values.data_ptr<float>()[i], 0.5);
    EXPECT_LT(values.data_ptr<float>()[i], 1.3);
  }
}

const char* const kBlocks[] = {
    R"({"kind": "adamw", "lr": 0.01, "bits": 8})",
    R"({"kind": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": true, "weight_decay": 0.1})",
    R"({"kind": "lion", "lr": 0.01, "weight_decay": 0.1})",
    R"({"kind": "adafactor", "lr": 0.01, "weight_decay": 0.1})",
    R"({"kind": "adafactor", "lr": 0.01, "beta1": 0.9, "scale_parameter": true})",
    R"({"kind": "muon", "lr": 0.01, "bits": 8})",
    R"({"kind": "muon", "lr": 0.01, "adjust_lr_fn": "original", "adamw_lr": 0.001})",
};

// Matrices that ranks cut inside rows, one that lies whole on a rank, an embedding, vectors.
const std::vector<std::pair<std::string, std::vector<int64_t>>> kShapes = {
    {"embed", {120, 36}},     {"layers.0.a", {24, 40}},  {"layers.0.norm", {300}},  {"layers.0.b", {100, 30}},
    {"layers.1.a", {40, 24}}, {"layers.1.tiny", {4, 8}}, {"layers.1.b", {30, 100}}, {"head", {120, 36}}};

std::map<std::string, at::Tensor> saved_state(Optimizer& optimizer) {
  std::map<std::string, at::Tensor> all;
  for (const StateTensor& tensor : optimizer.state()) all[tensor.name + "/" + tensor.key] = tensor.value.clone();
  return all;
}

std::string text_of(const Pieces& mine, ProcessGroup& group) {
  std::ostringstream out;
  out.precision(9);
  for (const OptimizerPiece& piece : mine.pieces) {
    const at::Tensor whole = at::zeros({piece.numel}, at::kFloat);
    if (piece.count > 0) whole.narrow(0, piece.begin, piece.count).copy_(piece.master);
    group.all_reduce_sum(whole).wait();
    for (int64_t i = 0; i < piece.numel; ++i) out << whole.data_ptr<float>()[i] << ' ';
  }
  return out.str();
}

// Twelve steps; and six, a new optimizer that takes the state up, and six more.
RANK_BODY(twelve_steps) {
  const Value block = parse_json(argument, "block");
  Pieces straight(kShapes, group->rank(), group->size()), resumed(kShapes, group->rank(), group->size());
  auto optimizer = build_optimizer(block, straight.pieces, group.get());
  straight.train(*optimizer, 1, 12);
  auto first = build_optimizer(block, resumed.pieces, group.get());
  resumed.train(*first, 1, 6);
  auto second = build_optimizer(block, resumed.pieces, group.get());
  const auto saved = saved_state(*first);
  for (const StateTensor& tensor : second->state()) tensor.value.copy_(saved.at(tensor.name + "/" + tensor.key));
  second->steps = first->steps;
  resumed.train(*second, 7, 12);
  for (size_t i = 0; i < straight.pieces.size(); ++i)
    if (straight.pieces[i].count > 0) {
      EXPECT_TRUE(at::equal(straight.pieces[i].master, resumed.pieces[i].master)) << straight.pieces[i].name;
    }
  int64_t foretold = 0;
  for (const OptimizerPiece& piece : straight.pieces) foretold += optimizer_state_bytes(block, piece);
  EXPECT_EQ(optimizer->state_bytes(), foretold);
  return text_of(straight, *group);
}

std::vector<double> numbers(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<double>(in), {}};
}

TEST(MatrixOptimizer, AgreesOnOneTwoAndFourRanks) {
  for (const char* block : kBlocks) {
    SCOPED_TRACE(block);
    const std::vector<double> one = numbers(test::run_ranks(1, "twelve_steps", block)[0]);
    ASSERT_EQ(one.size(), 2u * 120 * 36 + 2 * 24 * 40 + 300 + 2 * 3000 + 32);
    for (const int ranks : {2, 4}) {
      const std::vector<double> several = numbers(test::run_ranks(ranks, "twelve_steps", block)[0]);
      ASSERT_EQ(several.size(), one.size());
      for (size_t i = 0; i < one.size(); ++i) ASSERT_NEAR(several[i], one[i], 3e-7) << ranks << " ranks, " << i;
    }
  }
}

TEST(MatrixOptimizer, MuonLeavesEmbeddingHeadAndVectorsToAdamW) {
  const Value muon = parse_json(R"({"kind": "muon", "lr": 0.01, "weight_decay": 0.1})", "block");
  const Value adamw =
      parse_json(R"({"kind": "adamw", "lr": 0.01, "betas": [0.9, 0.95], "weight_decay": 0.1})", "block");
  Pieces by_muon(kShapes, 0, 1), by_adamw(kShapes, 0, 1);
  by_muon.train(*build_optimizer(muon, by_muon.pieces), 1, 3);
  by_adamw.train(*build_optimizer(adamw, by_adamw.pieces), 1, 3);
  for (size_t i = 0; i < kShapes.size(); ++i) {
    const bool matrix = kShapes[i].first.find("layers") == 0 && kShapes[i].second.size() == 2;
    EXPECT_EQ(at::equal(by_muon.pieces[i].master, by_adamw.pieces[i].master), !matrix) << kShapes[i].first;
  }
}

TEST(MatrixOptimizer, SavesOnceWhatRanksShare) {
  Pieces pieces({{"layers.0.a", {24, 40}}}, 0, 1);
  auto optimizer = build_optimizer(Value::map({{"kind", "adafactor"}}), pieces.pieces);
  const auto state = optimizer->state();
  ASSERT_EQ(state.size(), 2u);
  EXPECT_EQ(state[0].key, "exp_avg_sq_row");
  EXPECT_EQ(state[0].count, 24);
  EXPECT_EQ(state[0].elements_per_entry, 40);
  EXPECT_EQ(state[1].key, "exp_avg_sq_col");
  EXPECT_EQ(state[1].count, 40);
  EXPECT_TRUE(state[0].saved && state[1].saved);
}

// ---- groups ----

Value with_groups(const std::string& groups) {
  return parse_json(R"({"kind": "sgd", "lr": 0.1, "weight_decay": 0.5, "groups": )" + groups + "}", "block");
}

TEST(ParameterGroups, GiveTheFirstGroupThatFitsItsRateAndDecay) {
  Pieces pieces({{"layers.0.q.lora_A.weight", {2, 128}},
                 {"layers.0.q.lora_B.weight", {128, 2}},
                 {"layers.1.q.lora_B.weight", {128, 2}},
                 {"layers.0.norm", {256}}},
                0, 1);
  auto optimizer =
      build_optimizer(with_groups(R"([{"pattern": "^layers\\.1\\..*lora_B", "lr_scale": 0.5, "weight_decay": 0},
                      {"pattern": "lora_B", "lr": 0.4}, {"pattern": "norm", "weight_decay": 0.25}])"),
                      pieces.pieces);
  pieces.set_grads(1);
  optimizer->step(0.05);  // half of the peak: a group's own rate follows the schedule too
  const double rate[] = {0.05, 0.2, 0.025, 0.05}, decay[] = {0.5, 0.5, 0, 0.25};
  for (size_t p = 0; p < 4; ++p)
    for (int64_t i = 0; i < 256; i += 17) {
      const double want = noise(0, i) - rate[p] * (noise(1, i) + decay[p] * noise(0, i));
      ASSERT_NEAR(pieces.pieces[p].master.data_ptr<float>()[i], want, 1e-7) << p;
    }
}

std::string refusal(const std::string& groups) {
  Pieces pieces({{"layers.0.q_proj.weight", {2, 128}}}, 0, 1);
  return test::refusal([&] { build_optimizer(with_groups(groups), pieces.pieces); });
}

TEST(ParameterGroups, AreRefusedWhereTheyMeanNothing) {
  EXPECT_EQ(refusal(R"([{"pattern": "q_proj", "lr": 0.1}])"), "was taken");
  EXPECT_EQ(refusal("[]"), "was taken");
  EXPECT_THAT(refusal(R"([{"pattern": "q_porj", "lr": 0.1}])"),
              testing::AllOf(testing::HasSubstr("optimizer.groups[1].pattern: got 'q_porj'"),
                             testing::HasSubstr("did you mean 'q_proj'?")));
  EXPECT_THAT(refusal(R"([{"pattern": "q_("}])"), testing::HasSubstr("missing closing parenthesis"));
  EXPECT_THAT(refusal(R"([{"pattern": "q", "lr": -1}])"), testing::HasSubstr("got -1, want 0 or more"));
  EXPECT_THAT(refusal(R"([{"pattern": "q", "rl": 1}])"), testing::HasSubstr("unknown key 'rl'"));
  EXPECT_THAT(refusal(R"([{"lr": 1}])"), testing::HasSubstr("optimizer.groups[1].pattern"));
  EXPECT_THAT(refusal(R"([{"pattern": "q", "lr": 1, "lr_scale": 1}])"), testing::HasSubstr("got lr and lr_scale"));
  EXPECT_THAT(refusal(R"([{"pattern": "q"}, {"pattern": "q_proj"}])"), testing::HasSubstr("groups before it take all"));
}

}  // namespace
}  // namespace ft
