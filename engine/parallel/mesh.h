#pragma once
/// The ranks of a run as a grid with named axes: replicate × shard × context × tensor, the last one moving fastest, so
/// that ranks of one tensor group are neighbours on one machine. Made once by the run from the plan. Rank rule: making
/// a mesh is collective over the world. Thread rule: as ProcessGroup.

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "engine/parallel/process_group.h"

namespace ft {

enum class Axis { replicate, shard, context, tensor };
inline constexpr int kNumAxes = 4;

/// "replicate", "shard", "context", "tensor".
const char* to_string(Axis axis);

/// Ranks along each axis.
struct MeshShape {
  int replicate = 1, shard = 1, context = 1, tensor = 1;

  int size(Axis axis) const;
  int world_size() const { return replicate * shard * context * tensor; }
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
  /// The ranks that parameters are sharded over: shard × context.
  ProcessGroup& shard_group() const { return *shard_; }
  int coordinate(Axis axis) const { return shape_.coordinates(world_->rank())[static_cast<size_t>(axis)]; }
  /// Which share of the data this rank reads: its place among replicate × shard. Ranks of one context or tensor group
  /// read the same rows.
  int data_rank() const;
  int num_data_ranks() const { return shape_.replicate * shape_.shard; }

 private:
  std::shared_ptr<ProcessGroup> make_group(const std::vector<Axis>& axes, const std::string& name) const;

  MeshShape shape_;
  std::shared_ptr<ProcessGroup> world_, shard_;
  std::array<std::shared_ptr<ProcessGroup>, kNumAxes> groups_;
};

}  // namespace ft
