#pragma once
/// 8-bit state of a checkpoint whose blocks of 256 are not this layout's, since tensor slices cut them elsewhere, or
/// that another engine keeps in fp32 among others of 8 bits.
/// Called by load_optimizer alone.

#include <vector>

#include "engine/formats/saved_state.h"
#include "engine/optim/optimizer.h"
#include "engine/parallel/parameter.h"

namespace ft {

/// Where the checkpoint holds 8-bit state in other blocks, or another engine's holds it in fp32: decodes it as it was
/// saved, and quantizes it in the blocks of this layout, which costs at most one rounding of the codes.
/// @param state codes or scales: with the codes their scales, found among `states`, are filled too
/// @return false where the checkpoint's blocks are this layout's, or `state` is not of 8 bits: read as it is
bool read_cut_anew(const SavedState& checkpoint, const Parameter& parameter, const StateTensor& state,
                   const std::vector<StateTensor>& states);

}  // namespace ft
