#pragma once
/// Where each parameter of a unit lies in the unit's flat ranges, and which part of them a rank owns. Pure arithmetic:
/// no tensor, no process group. Built once a unit by ShardUnit; loading, the optimizer and checkpoints walk its pieces.

#include <cstdint>
#include <vector>

#include "engine/parallel/parameter.h"

namespace ft {

/// A contiguous part of one parameter that one rank owns.
struct ShardPiece {
  Parameter* parameter = nullptr;
  int64_t begin = 0;        ///< first atom in the flattened parameter
  int64_t count = 0;        ///< atoms
  int64_t local_begin = 0;  ///< first atom in the rank's own range
};

/// One flat range of a unit: parameters of one kind one after another, each padded to `alignment` atoms, the whole
/// padded so that every rank owns the same number of atoms, a multiple of `alignment`. An atom is an element, or for
/// nf4 one group record; it never straddles ranks.
class ShardLayout {
 public:
  /// @param alignment atoms: 256 for trainable (a block of the 8-bit optimizer), 64 for frozen, 1 for nf4.
  ShardLayout(std::vector<Parameter*> parameters, int64_t alignment, int ranks);

  /// Atoms of one parameter: elements, or for nf4 its group records.
  static int64_t atoms(const Parameter& parameter);

  const std::vector<Parameter*>& parameters() const { return parameters_; }
  int64_t begin(size_t index) const { return begins_[index]; }  ///< first atom of a parameter in the flat range
  int64_t per_rank() const { return per_rank_; }                ///< atoms a rank owns, padding included
  int64_t total() const { return per_rank_ * ranks_; }
  /// What `rank` owns, in flat order; padding belongs to no piece.
  std::vector<ShardPiece> pieces(int rank) const;

 private:
  std::vector<Parameter*> parameters_;
  std::vector<int64_t> begins_;
  int64_t per_rank_ = 0;
  int ranks_ = 1;
};

}  // namespace ft
