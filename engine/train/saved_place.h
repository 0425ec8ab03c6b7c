#pragma once
/// Where a range of a parameter, or of what an optimizer keeps of it, stands in a checkpoint: pieces are named by what
/// they are of the whole tensor, so that any layout reads what any other wrote. Used by save and resume.

#include <cstdint>
#include <map>
#include <string>

#include "engine/formats/checkpoint.h"
#include "engine/optim/optimizer.h"
#include "engine/parallel/parameter.h"

namespace ft {

/// A range of fp32 masters.   @param begin,count elements of the flattened parameter, its slice where it is one
Piece place_of_master(const Parameter& parameter, int64_t begin, int64_t count);

/// The same of an optimizer's state. Entries for several elements (scales of 8-bit blocks) that a slice cuts anew, so
/// that they are none of the whole tensor's, get a kind of their own: kind_of_cut.
Piece place_of_state(const Parameter& parameter, const StateTensor& state);

/// "exp_avg_scale#rows 0/2": of part `index` of `parts` of a tensor that is cut along `dim`.
std::string kind_of_cut(const std::string& key, size_t dim, int64_t index, int64_t parts);

/// Reads what stands at a place, whichever pieces the checkpoint holds it in.   @throws as SavedState::read
void read_at(const SavedState& checkpoint, const Piece& place, void* out);

}  // namespace ft
