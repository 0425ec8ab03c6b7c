// The optimizers on masters and gradients that lie on the GPU, against the same on the host.
#include "engine/optim/optimizer.h"

#include <ATen/ops/empty_like.h>

#include "tests/gpu/gpu.h"

namespace ft::testing {
namespace {

using GpuOptimizer = Gpu;

struct Side {
  Tensors masters, grads;
  std::unique_ptr<Optimizer> optimizer;

  Side(const Value& description, const std::vector<int64_t>& counts, at::DeviceType device) {
    std::vector<OptimizerPiece> pieces;
    for (size_t i = 0; i < counts.size(); ++i) {
      masters.push_back(normal({counts[i]}, 0.1, static_cast<unsigned>(i)).to(device));
      grads.push_back(at::empty_like(masters.back()));
      OptimizerPiece piece;
      piece.name = "w" + std::to_string(i);
      piece.numel = piece.count = counts[i];
      piece.master = masters.back();
      piece.grad = grads.back();
      if (counts[i] % 96 == 0) piece.shape = {counts[i] / 96, 96}, piece.hidden = true;
      pieces.push_back(piece);
    }
    optimizer = build_optimizer(description, std::move(pieces));
  }
  void step(unsigned seed, double lr) {
    for (size_t i = 0; i < grads.size(); ++i)
      grads[i].copy_(normal(grads[i].sizes(), 0.01, seed * 1000 + static_cast<unsigned>(i)));
    optimizer->step(lr);
  }
};

Value adamw(int64_t bits) { return Value::map({{"kind", "adamw"}, {"bits", bits}, {"weight_decay", 0.1}}); }

// 40 tensors: more than one launch takes. The last one ends inside a block.
TEST_F(GpuOptimizer, AdamWOn8BitStateGivesTheBitsOfTheCpu) {
  std::vector<int64_t> counts(38, 4096 + 256);
  counts.push_back(1 << 20);
  counts.push_back(70001);
  Side cpu(adamw(8), counts, at::kCPU), gpu(adamw(8), counts, at::kCUDA);
  for (unsigned step = 1; step <= 5; ++step) {
    cpu.step(step, 1e-3);
    gpu.step(step, 1e-3);
  }
  for (size_t i = 0; i < counts.size(); ++i) EXPECT_TRUE(gpu.masters[i].cpu().equal(cpu.masters[i])) << i;
  const auto want = cpu.optimizer->state(), got = gpu.optimizer->state();
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i)
    EXPECT_TRUE(got[i].value.cpu().equal(want[i].value)) << want[i].name << " " << want[i].key;
}

TEST_F(GpuOptimizer, AdamWOn32BitState) {
  const std::vector<int64_t> counts{100, 70000};
  Side cpu(adamw(32), counts, at::kCPU), gpu(adamw(32), counts, at::kCUDA);
  for (unsigned step = 1; step <= 5; ++step) {
    cpu.step(step, 1e-3);
    gpu.step(step, 1e-3);
  }
  for (size_t i = 0; i < counts.size(); ++i) EXPECT_LT(distance(gpu.masters[i], cpu.masters[i]), 1e-6) << i;
}

// Sums in another order, and for Lion a few updates of the other sign where it hangs on rounding.
TEST_F(GpuOptimizer, TheOthers) {
  const std::vector<int64_t> counts{100, 96 * 256};
  const Value descriptions[] = {
      Value::map({{"kind", "sgd"}}),
      Value::map({{"kind", "sgd"}, {"momentum", 0.9}, {"nesterov", true}, {"weight_decay", 0.1}}),
      Value::map({{"kind", "lion"}, {"weight_decay", 0.1}}),
      Value::map({{"kind", "adafactor"}}),
      Value::map({{"kind", "muon"}}),
  };
  for (const Value& description : descriptions) {
    Side cpu(description, counts, at::kCPU), gpu(description, counts, at::kCUDA);
    for (unsigned step = 1; step <= 5; ++step) {
      cpu.step(step, 1e-3);
      gpu.step(step, 1e-3);
    }
    for (size_t i = 0; i < counts.size(); ++i)
      EXPECT_LT(distance(gpu.masters[i], cpu.masters[i]), 2e-4) << description.at("kind").as_string() << " " << i;
  }
}

}  // namespace
}  // namespace ft::testing
