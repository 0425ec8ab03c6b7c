#include "engine/train/saved_place.h"

#include <algorithm>

#include "engine/parallel/scalar_type.h"

namespace ft {
namespace {

// Moves a range of a slice to where it stands in the whole. @param per elements an entry stands for; divides what the
// slice keeps together   @param shape of the whole, where it is not that of a vector of entries
void place(const Parameter& parameter, int64_t per, Piece& piece) {
  const TensorSlice& slice = parameter.slice;
  if (slice.dim == 0) {
    piece.begin += slice.index * (parameter.numel() / per);
    return;
  }
  const int64_t columns = parameter.shape[1] / per;
  piece.shape = {parameter.shape[0], columns * slice.parts};
  piece.columns = {slice.index * columns, columns};
}

}  // namespace

std::string kind_of_cut(const std::string& key, size_t dim, int64_t index, int64_t parts) {
  return key + (dim == 0 ? "#rows " : "#columns ") + std::to_string(index) + "/" + std::to_string(parts);
}

Piece place_of_master(const Parameter& parameter, int64_t begin, int64_t count) {
  Piece piece{parameter.name, "master", DType::f32, parameter.full_shape(), begin, count};
  if (!parameter.slice.whole()) place(parameter, 1, piece);
  return piece;
}

Piece place_of_state(const Parameter& parameter, const StateTensor& state) {
  const int64_t per = state.elements_per_entry;
  const auto entries = [per](int64_t elements) { return (elements + per - 1) / per; };
  Piece piece{state.name,  state.key,  dtype_of(state.value.scalar_type()), {entries(parameter.full_numel())},
              state.begin, state.count};
  const TensorSlice& slice = parameter.slice;
  if (slice.whole()) return piece;
  const int64_t together = slice.dim == 0 ? parameter.numel() : parameter.shape[1];
  if (together % per != 0) {
    piece.kind = kind_of_cut(state.key, slice.dim, slice.index, slice.parts);
    piece.shape = {entries(parameter.numel())};
    return piece;
  }
  place(parameter, per, piece);
  return piece;
}

void read_at(const SavedState& checkpoint, const Piece& place, void* out) {
  if (place.columns.whole()) return checkpoint.read(place.name, place.kind, place.begin, place.count, out);
  const int64_t width = place.columns.count, bytes = static_cast<int64_t>(byte_size(place.dtype));
  auto* to = static_cast<std::byte*>(out);
  for (int64_t at = place.begin; at < place.begin + place.count;) {
    const int64_t row = at / width, column = at % width;
    const int64_t run = std::min(width - column, place.begin + place.count - at);
    checkpoint.read(place.name, place.kind, row * place.shape[1] + place.columns.begin + column, run,
                    to + (at - place.begin) * bytes);
    at += run;
  }
}

}  // namespace ft
