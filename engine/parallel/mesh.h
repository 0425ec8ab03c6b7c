#pragma once
/// The ranks of a run as a grid with named axes: replicate × shard × context × tensor, the last one moving fastest, so
/// that ranks of one tensor group are neighbours on one machine. Made once by the run from the plan. Rank rule: making
/// a mesh is collective over the world. Thread rule: as ProcessGroup.

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/parallel/process_group.h"
#include "engine/schema/value.h"

namespace ft {

enum class Axis { replicate, shard, context, tensor };
inline constexpr int kNumAxes = 4;

/// "replicate", "shard", "context", "tensor".
const char* to_string(Axis axis);

/// Ranks along each axis.
struct MeshShape {
  int replicate = 1, shard = 1, context = 1, tensor = 1;

  /// What a plan's `parallel` block asks for on so many ranks: parallel.mesh = { replicate, shard, context, tensor },
  /// whose `shard`, where it is not given, is what the other axes leave of the ranks.
  /// @throws Error(config) when the axes do not multiply to the ranks, with shapes that would fit.
  static MeshShape from_plan(const Value& parallel, int ranks);

  int size(Axis axis) const;
  int64_t world_size() const { return int64_t{replicate} * shard * context * tensor; }
  /// A rank's coordinate on each axis, by Axis.
  std::array<int, kNumAxes> coordinates(int rank) const;
  /// Ranks that differ from `rank` on the given axes alone, itself included, ascending.
  std::vector<int> neighbours(int rank, const std::vector<Axis>& axes) const;
  /// "2 × shard, 4 × tensor": axes of one are left out; "1 rank" when all are.
  std::string text() const;
};

class Mesh {
 public:
  /// @throws Error(config) when the axes do not multiply to the world's size, with both numbers.
  Mesh(const MeshShape& shape, std::shared_ptr<ProcessGroup> world);

  const MeshShape& shape() const { return shape_; }
  ProcessGroup& world() const { return *world_; }
  /// The ranks along one axis through this one.
  ProcessGroup& group(Axis axis) const { return *groups_[static_cast<size_t>(axis)]; }
  /// The ranks along several axes through this one; a group that stands already is used again. Collective.
  std::shared_ptr<ProcessGroup> group(const std::vector<Axis>& axes);
  /// The ranks that parameters are sharded over: shard × context.
  ProcessGroup& shard_group() const { return *shard_; }
  /// The ranks that read different rows: replicate × shard.
  ProcessGroup& data_group() const { return *data_; }
  /// The ranks whose losses and counts of tokens are parts of one sum: replicate × shard × context. Ranks of one
  /// context group hold parts of the same rows, each with its own targets; those of one tensor group hold the same.
  ProcessGroup& loss_group() const { return *loss_; }
  int coordinate(Axis axis) const { return shape_.coordinates(world_->rank())[static_cast<size_t>(axis)]; }
  /// Which share of the data this rank reads: its place among replicate × shard. Ranks of one context or tensor group
  /// read the same rows.
  int data_rank() const;
  int num_data_ranks() const { return shape_.replicate * shape_.shard; }

 private:
  MeshShape shape_;
  std::shared_ptr<ProcessGroup> world_, shard_, data_, loss_;
  std::array<std::shared_ptr<ProcessGroup>, kNumAxes> groups_;
  std::map<std::vector<Axis>, std::shared_ptr<ProcessGroup>> made_;  // by axes of more than one rank
};

}  // namespace ft
