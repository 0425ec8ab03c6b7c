#include "engine/train/derived_values.h"

#include <c10/core/GradMode.h>

#include <map>

#include "engine/error/error.h"

namespace ft {

void derive_values(ShardUnit& unit, const WeightSource& source, int rank) {
  FlatRange* range = unit.trainable();
  if (!range) return;
  std::vector<const Parameter*> wanted;
  for (const Parameter* p : range->layout.parameters())
    if (p->derive && !source.holds(*p)) wanted.push_back(p);
  if (wanted.empty()) return;
  c10::AutoGradMode no_graph(false);
  double waited = 0;
  unit.start_gather();
  unit.finish_gather(waited);
  std::map<const Parameter*, at::Tensor> values;
  for (const Parameter* p : wanted) {
    values[p] = p->derive().flatten();
    FT_CHECK(values[p].numel() == p->numel(), p->name + ": derived values do not fit it");
  }
  unit.release();
  for (const ShardPiece& piece : range->layout.pieces(rank))
    if (const auto made = values.find(piece.parameter); made != values.end())
      range->piece(piece).copy_(made->second.narrow(0, piece.begin, piece.count));
  unit.masters_changed();
}

}  // namespace ft
