#include "engine/merge/fold.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "engine/merge/fold_kernel.h"

namespace ft {
namespace {

struct Problem {
  int64_t out = 13, in = 2 * kTile + 37, rank = 5;
  std::vector<float> a, b, w;
  Problem() : a(rank * in), b(out * rank), w(out * in) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (auto* v : {&a, &b, &w})
      for (float& x : *v) x = normal(random);
  }
  FoldRange range(int64_t begin, int64_t count) const {
    return {in, rank, begin, count, a.data(), b.data() + begin / in * rank, 0.75f};
  }
};

TEST(Fold, IsTheProductInFp32) {
  const Problem p;
  std::vector<float> got = p.w;
  fold_lora(p.range(0, p.out * p.in), got.data());
  for (int64_t o = 0; o < p.out; ++o)
    for (int64_t i = 0; i < p.in; ++i) {
      double want = p.w[o * p.in + i], size = std::abs(want);
      for (int64_t k = 0; k < p.rank; ++k) {
        const double term = 0.75 * p.b[o * p.rank + k] * p.a[k * p.in + i];
        want += term, size += std::abs(term);
      }
      ASSERT_NEAR(got[o * p.in + i], want, size * 4e-7) << o << ", " << i;
    }
}

TEST(Fold, GivesTheSameBitsHoweverItIsCut) {
  const Problem p;
  std::vector<float> whole = p.w;
  fold_lora(p.range(0, p.out * p.in), whole.data());
  for (const int64_t cut : {1, 999, 4096, 5000}) {
    std::vector<float> got = p.w;
    for (int64_t at = 0; at < p.out * p.in; at += cut)
      fold_lora(p.range(at, std::min(cut, p.out * p.in - at)), got.data() + at);
    ASSERT_EQ(got, whole) << cut;
  }
}

TEST(Fold, GivesTheSameBitsOnEveryInstructionSet) {
  const Problem p;
  std::vector<float> scalar = p.w, chosen = p.w;
  fold_lora_scalar(p.range(0, p.out * p.in), scalar.data());
  fold_lora(p.range(0, p.out * p.in), chosen.data());
  EXPECT_EQ(scalar, chosen);
}

}  // namespace
}  // namespace ft
