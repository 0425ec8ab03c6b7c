#include "engine/parallel/tensor_slice.h"

#include <gtest/gtest.h>

#include <vector>

namespace ft {
namespace {

// The elements of the whole that [begin, begin + count) of the slice are, found by hand.
std::vector<int64_t> by_hand(const Parameter& p, int64_t begin, int64_t count) {
  std::vector<int64_t> whole;
  const int64_t rows = p.shape[0], columns = p.shape[1];
  for (int64_t i = begin; i < begin + count; ++i) {
    const int64_t row = i / columns, column = i % columns;
    whole.push_back(p.slice.dim == 0 ? (p.slice.index * rows + row) * columns + column
                                     : row * columns * p.slice.parts + p.slice.index * columns + column);
  }
  return whole;
}

TEST(TensorSlice, RunsAreTheElementsOfTheWhole) {
  for (const TensorSlice& slice : {TensorSlice{}, TensorSlice{0, 1, 3}, TensorSlice{1, 0, 2}, TensorSlice{1, 2, 3}}) {
    Parameter p;
    p.shape = {4, 5};
    p.slice = slice;
    EXPECT_EQ(p.full_numel(), 20 * slice.parts);
    for (int64_t begin = 0; begin <= 20; ++begin)
      for (int64_t count = 0; begin + count <= 20; ++count) {
        std::vector<int64_t> whole;
        int64_t next = begin;
        for_each_run(p, begin, count, [&](const SliceRun& run) {
          EXPECT_EQ(run.local, next);
          EXPECT_GT(run.count, 0);
          for (int64_t i = 0; i < run.count; ++i) whole.push_back(run.whole + i);
          next += run.count;
        });
        ASSERT_EQ(whole, by_hand(p, begin, count));
      }
  }
}

TEST(TensorSlice, VectorsAreCutToo) {
  Parameter p;
  p.shape = {6};
  p.slice = {0, 2, 4};
  EXPECT_EQ(p.full_shape(), std::vector<int64_t>{24});
  for_each_run(p, 1, 5, [](const SliceRun& run) {
    EXPECT_EQ(run.whole, 13);
    EXPECT_EQ(run.count, 5);
  });
}

}  // namespace
}  // namespace ft
