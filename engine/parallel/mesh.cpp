#include "engine/parallel/mesh.h"

#include <algorithm>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr std::array kAxes = {Axis::replicate, Axis::shard, Axis::context, Axis::tensor};

}  // namespace

const char* to_string(Axis axis) {
  switch (axis) {
    case Axis::replicate:
      return "replicate";
    case Axis::shard:
      return "shard";
    case Axis::context:
      return "context";
    case Axis::tensor:
      return "tensor";
  }
  return "";
}

int MeshShape::size(Axis axis) const {
  switch (axis) {
    case Axis::replicate:
      return replicate;
    case Axis::shard:
      return shard;
    case Axis::context:
      return context;
    case Axis::tensor:
      return tensor;
  }
  return 1;
}

std::array<int, kNumAxes> MeshShape::coordinates(int rank) const {
  std::array<int, kNumAxes> result{};
  for (int axis = kNumAxes - 1; axis >= 0; --axis) {
    result[axis] = rank % size(kAxes[axis]);
    rank /= size(kAxes[axis]);
  }
  return result;
}

std::vector<int> MeshShape::neighbours(int rank, const std::vector<Axis>& axes) const {
  const auto mine = coordinates(rank);
  std::vector<int> result;
  for (int other = 0; other < world_size(); ++other) {
    const auto theirs = coordinates(other);
    const bool same = std::all_of(kAxes.begin(), kAxes.end(), [&](Axis axis) {
      const auto at = static_cast<size_t>(axis);
      return mine[at] == theirs[at] || std::find(axes.begin(), axes.end(), axis) != axes.end();
    });
    if (same) result.push_back(other);
  }
  return result;
}

std::string MeshShape::text() const {
  std::string text;
  for (Axis axis : kAxes)
    if (size(axis) > 1) text += (text.empty() ? "" : ", ") + std::to_string(size(axis)) + " × " + to_string(axis);
  return text.empty() ? "1 rank" : text;
}

Mesh::Mesh(const MeshShape& shape, std::shared_ptr<ProcessGroup> world) : shape_(shape), world_(std::move(world)) {
  for (Axis axis : kAxes)
    if (shape.size(axis) < 1)
      throw Error(ErrorKind::config, "got " + std::to_string(shape.size(axis)) + ", want at least 1")
          .key(std::string("mesh.") + to_string(axis));
  if (shape.world_size() != world_->size())
    throw Error(ErrorKind::config, "the axes (" + shape.text() + ") make " + std::to_string(shape.world_size()) +
                                       " ranks, but there are " + std::to_string(world_->size()))
        .key("mesh")
        .help("let the axes multiply to the number of ranks (--nproc), or leave `shard` to be worked out");
  for (Axis axis : kAxes) groups_[static_cast<size_t>(axis)] = make_group({axis}, to_string(axis));
  shard_ = shape.context == 1 ? groups_[static_cast<size_t>(Axis::shard)]
                              : make_group({Axis::shard, Axis::context}, "shard_context");
}

std::shared_ptr<ProcessGroup> Mesh::make_group(const std::vector<Axis>& axes, const std::string& name) const {
  const std::vector<int> ranks = shape_.neighbours(world_->rank(), axes);
  if (ranks.size() == 1) return ProcessGroup::single();
  if (static_cast<int>(ranks.size()) == world_->size()) return world_;
  return world_->subgroup(ranks, name + "-" + std::to_string(ranks.front()));
}

int Mesh::data_rank() const {
  const auto mine = shape_.coordinates(world_->rank());
  return mine[static_cast<size_t>(Axis::replicate)] * shape_.shard + mine[static_cast<size_t>(Axis::shard)];
}

}  // namespace ft
