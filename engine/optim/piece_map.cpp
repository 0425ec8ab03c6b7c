#include "engine/optim/piece_map.h"

#include <ATen/ops/empty.h>

#include "engine/error/error.h"

namespace ft {

PieceMap::PieceMap(const std::vector<OptimizerPiece>& pieces, ProcessGroup* group) : parts_(pieces.size()) {
  const auto number = static_cast<int64_t>(pieces.size());
  const int ranks = group ? group->size() : 1;
  if (group)
    FT_CHECK(group->max(static_cast<double>(number)) == static_cast<double>(number) &&
                 group->max(-static_cast<double>(number)) == -static_cast<double>(number),
             "every rank names the same parameters, empty pieces included");
  if (number == 0) return;
  const at::Tensor mine = at::empty({2 * number}, at::kLong), whole = at::empty({ranks * 2 * number}, at::kLong);
  for (int64_t i = 0; i < number; ++i) {
    mine.data_ptr<int64_t>()[2 * i] = pieces[static_cast<size_t>(i)].begin;
    mine.data_ptr<int64_t>()[2 * i + 1] = pieces[static_cast<size_t>(i)].count;
  }
  if (group) {
    group->all_gather_into(whole, mine).wait();
  } else {
    whole.copy_(mine);
  }
  for (int64_t i = 0; i < number; ++i) {
    std::vector<Part>& parts = parts_[static_cast<size_t>(i)];
    int64_t covered = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const int64_t* at = whole.const_data_ptr<int64_t>() + 2 * (rank * number + i);
      if (at[1] == 0) continue;
      FT_CHECK(at[0] == covered, pieces[static_cast<size_t>(i)].name + ": the ranks' pieces follow one another");
      parts.push_back({rank, at[0], at[1]});
      covered += at[1];
    }
    FT_CHECK(covered == pieces[static_cast<size_t>(i)].numel,
             pieces[static_cast<size_t>(i)].name + ": the ranks' pieces make up the parameter");
  }
}

}  // namespace ft
