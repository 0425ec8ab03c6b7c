#include "engine/parallel/flat_range.h"

#include "engine/error/error.h"

namespace ft {

at::Tensor FlatRange::piece(const ShardPiece& p) const {
  return owned.narrow(0, p.local_begin * atom_elements, p.count * atom_elements);
}

int64_t FlatRange::owned_bytes() const {
  return layout.per_rank() * atom_elements * static_cast<int64_t>(c10::elementSize(owned_dtype));
}

void FlatRange::map_from(std::shared_ptr<MappedRange> place) {
  FT_CHECK(mapped, "a range that is owned has no place in a map");
  map = std::move(place);
  owned = map->view(owned_dtype);
}

}  // namespace ft
