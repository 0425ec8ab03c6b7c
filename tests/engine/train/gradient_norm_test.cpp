#include "engine/train/gradient_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

namespace ft {
namespace {

TEST(SumOfSquares, LosesNothingThatFp32WouldLose) {
  // One large element before many small ones: fp32 sums would drop every one of them.
  const int64_t count = (int64_t{3} << 16) + 5;
  at::Tensor x = at::full({count}, 0x1p-12f);
  x[0] = 0x1p12f;
  EXPECT_EQ(sum_of_squares(x), 0x1p24 + static_cast<double>(count - 1) * 0x1p-24);
}

TEST(SumOfSquares, DoesNotShowTheNumberOfThreads) {
  const at::Tensor x = at::arange(500'003, at::kFloat).mul_(0.37f).sin_();
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const double alone = sum_of_squares(x);
  at::set_num_threads(3);
  EXPECT_EQ(sum_of_squares(x), alone);
  at::set_num_threads(threads);
  EXPECT_NEAR(alone, 250'001.5, 1.0);  // the mean of sin² is a half
}

}  // namespace
}  // namespace ft
