#include "engine/parallel/mesh.h"

#include <algorithm>
#include <numeric>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr std::array kAxes = {Axis::replicate, Axis::shard, Axis::context, Axis::tensor};

std::string literal(const MeshShape& shape) {
  std::string text;
  for (Axis axis : kAxes)
    if (shape.size(axis) > 1 || axis == Axis::shard)
      text += (text.empty() ? "" : ", ") + std::string(to_string(axis)) + " = " + std::to_string(shape.size(axis));
  return "{ " + text + " }";
}

// The axes cut down to what divides the ranks, tensor first, as it is the one that a model's sizes ask for.
MeshShape nearest_that_fits(const MeshShape& wanted, int ranks) {
  MeshShape near;
  near.tensor = std::gcd(wanted.tensor, ranks);
  near.context = std::gcd(wanted.context, ranks / near.tensor);
  near.replicate = std::gcd(wanted.replicate, ranks / (near.tensor * near.context));
  near.shard = ranks / (near.tensor * near.context * near.replicate);
  return near;
}

void check_fits(const MeshShape& shape, int ranks) {
  for (Axis axis : kAxes)
    if (shape.size(axis) < 1)
      throw Error(ErrorKind::config, "got " + std::to_string(shape.size(axis)) + ", want at least 1")
          .key(std::string("parallel.mesh.") + to_string(axis));
  if (shape.world_size() == ranks) return;
  throw Error(ErrorKind::config, "the axes (" + shape.text() + ") make " + std::to_string(shape.world_size()) +
                                     " ranks, but there are " + std::to_string(ranks))
      .key("parallel.mesh")
      .help("write mesh = " + literal(nearest_that_fits(shape, ranks)) + " for " + std::to_string(ranks) +
            (ranks == 1 ? " rank" : " ranks") + ", or start " + std::to_string(shape.world_size()) + " (--nproc)");
}

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

MeshShape MeshShape::from_plan(const Value& parallel, int ranks) {
  MeshShape shape;
  const Value* mesh = parallel.find("mesh");
  if (!mesh || mesh->is_null()) {
    shape.shard = ranks;
    return shape;
  }
  const auto axis = [mesh](const char* key) { return static_cast<int>(mesh->get(key, 1)); };
  shape.replicate = axis("replicate");
  shape.context = axis("context");
  shape.tensor = axis("tensor");
  const Value* shard = mesh->find("shard");
  const bool given = shard && !shard->is_null();
  shape.shard = given ? static_cast<int>(shard->as_integer())
                      : std::max(1, static_cast<int>(ranks / std::max<int64_t>(1, shape.world_size())));
  check_fits(shape, ranks);
  return shape;
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
  check_fits(shape, world_->size());
  for (Axis axis : kAxes) groups_[static_cast<size_t>(axis)] = group(std::vector{axis});
  shard_ = group({Axis::shard, Axis::context});
  data_ = group({Axis::replicate, Axis::shard});
  loss_ = group({Axis::replicate, Axis::shard, Axis::context});
}

std::shared_ptr<ProcessGroup> Mesh::group(const std::vector<Axis>& axes) {
  std::vector<Axis> wide;
  int64_t ranks = 1;
  std::string name;
  for (Axis axis : kAxes) {
    if (shape_.size(axis) == 1 || std::find(axes.begin(), axes.end(), axis) == axes.end()) continue;
    wide.push_back(axis);
    ranks *= shape_.size(axis);
    name += (name.empty() ? "" : "-") + std::string(to_string(axis));
  }
  if (ranks == world_->size()) return world_;  // one rank alone too
  if (wide.empty()) return ProcessGroup::single();
  std::shared_ptr<ProcessGroup>& made = made_[wide];
  if (!made) made = world_->subgroup(shape_.neighbours(world_->rank(), wide), name);
  return made;
}

int Mesh::data_rank() const {
  const auto mine = shape_.coordinates(world_->rank());
  return mine[static_cast<size_t>(Axis::replicate)] * shape_.shard + mine[static_cast<size_t>(Axis::shard)];
}

}  // namespace ft
