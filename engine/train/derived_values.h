#pragma once
/// Initial values that depend on other parameters (Parameter::derive). Called by ShardedModel::load after a unit's own
/// ranges are there.

#include "engine/parallel/shard_unit.h"
#include "engine/train/weights.h"

namespace ft {

/// Makes the values that neither a file nor a checkpoint holds, and writes this rank's part of them into its masters.
/// Collective where there are any: the unit is gathered.
/// @param rank among those that the unit is split over
void derive_values(ShardUnit& unit, const WeightSource& source, int rank);

}  // namespace ft
