#include "engine/parallel/shard_layout.h"

#include <gtest/gtest.h>

#include <map>

namespace ft {
namespace {

Parameter parameter(std::vector<int64_t> shape, Storage storage = Storage::trainable) {
  Parameter p;
  p.shape = std::move(shape);
  p.storage = storage;
  return p;
}

class ShardLayoutTest : public testing::TestWithParam<int> {};

TEST_P(ShardLayoutTest, gives_every_element_to_exactly_one_rank_cut_on_block_boundaries) {
  const int ranks = GetParam();
  Parameter a = parameter({16, 33}), b = parameter({7}), c = parameter({300, 40});
  const ShardLayout layout({&a, &b, &c}, 256, ranks);
  EXPECT_EQ(layout.per_rank() % 256, 0);
  std::map<Parameter*, int64_t> seen;
  for (int rank = 0; rank < ranks; ++rank) {
    for (const ShardPiece& piece : layout.pieces(rank)) {
      EXPECT_EQ(piece.begin, seen[piece.parameter]) << "pieces of one parameter follow each other";
      EXPECT_EQ(piece.begin % 256, 0);
      EXPECT_LE(piece.local_begin + piece.count, layout.per_rank());
      seen[piece.parameter] += piece.count;
    }
  }
  for (Parameter* p : {&a, &b, &c}) EXPECT_EQ(seen[p], p->numel());
}

TEST_P(ShardLayoutTest, cuts_nf4_between_group_records) {
  const int ranks = GetParam();
  Parameter a = parameter({128, 200}, Storage::nf4);  // 25,600 elements: one whole group and a partial one
  const ShardLayout layout({&a}, 1, ranks);
  EXPECT_EQ(ShardLayout::atoms(a), 2);
  int64_t records = 0;
  for (int rank = 0; rank < ranks; ++rank)
    for (const ShardPiece& piece : layout.pieces(rank)) records += piece.count;
  EXPECT_EQ(records, 2);
}

INSTANTIATE_TEST_SUITE_P(Ranks, ShardLayoutTest, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace ft
