#include "engine/parallel/shard_layout.h"

#include <algorithm>

#include "engine/quant/nf4.h"

namespace ft {
namespace {

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace

int64_t ShardLayout::atoms(const Parameter& parameter) {
  return parameter.storage == Storage::nf4 ? nf4::num_groups(parameter.numel()) : parameter.numel();
}

ShardLayout::ShardLayout(std::vector<Parameter*> parameters, int64_t alignment, int ranks)
    : parameters_(std::move(parameters)), ranks_(ranks) {
  int64_t end = 0;
  for (const Parameter* parameter : parameters_) {
    begins_.push_back(end);
    end += round_up(atoms(*parameter), alignment);
  }
  per_rank_ = round_up(end, alignment * ranks) / ranks;
}

std::vector<ShardPiece> ShardLayout::pieces(int rank) const {
  const int64_t first = rank * per_rank_, last = first + per_rank_;
  std::vector<ShardPiece> owned;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const int64_t begin = std::max(first, begins_[i]);
    const int64_t end = std::min(last, begins_[i] + atoms(*parameters_[i]));
    if (begin < end) owned.push_back({parameters_[i], begin - begins_[i], end - begin, begin - first});
  }
  return owned;
}

}  // namespace ft
