#include "engine/parallel/add_in_pieces.h"

#include <algorithm>

namespace ft {

// LibTorch makes a copy of what it adds in the dtype that it adds in: of a piece, since the whole may be a
// vocabulary's.
void add_in_pieces(const at::Tensor& into, const at::Tensor& flat) {
  constexpr int64_t kPiece = int64_t{1} << 20;
  if (!flat.is_cpu() || flat.scalar_type() == into.scalar_type()) return static_cast<void>(into.add_(flat));
  for (int64_t begin = 0; begin < flat.numel(); begin += kPiece) {
    const int64_t count = std::min(kPiece, flat.numel() - begin);
    into.narrow(0, begin, count).add_(flat.narrow(0, begin, count));
  }
}

}  // namespace ft
