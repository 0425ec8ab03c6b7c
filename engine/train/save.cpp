#include "engine/train/save.h"

#include <algorithm>

#include "engine/train/checkpoint_saver.h"
#include "engine/train/saved_place.h"

namespace ft {
std::vector<OptimizerPiece> optimizer_pieces(ShardedModel& model) {
  std::vector<OptimizerPiece> pieces;
  const auto& units = model.model().units();
  const auto in = [](const ModelUnit& unit, const Parameter* parameter) {
    return std::find(unit.parameters.begin(), unit.parameters.end(), parameter) != unit.parameters.end();
  };
  for (auto& owner : model.shards()) {
    ShardUnit& shard = *owner;
    FlatRange* range = shard.trainable();
    if (!range) continue;
    const ShardLayout& layout = range->layout;
    const std::vector<ShardPiece> owned = layout.pieces(model.split_group().rank());
    for (size_t i = 0; i < layout.parameters().size(); ++i) {
      const Parameter* parameter = layout.parameters()[i];
      OptimizerPiece piece;
      piece.name = parameter->name;
      piece.numel = parameter->numel();
      piece.whole_numel = parameter->full_numel();
      piece.cut = layout.begin(i) / layout.per_rank() != (layout.begin(i) + piece.numel - 1) / layout.per_rank();
      piece.shape = parameter->shape;
      piece.decay = parameter->shape.size() > 1;
      piece.hidden = !in(units.front(), parameter) && !in(units.back(), parameter);  // neither embedding nor head
      piece.master = range->owned.narrow(0, 0, 0);  // of a rank that owns nothing of it: says where the others' lie
      for (const ShardPiece& p : owned) {
        if (p.parameter != parameter) continue;
        piece.begin = p.begin;
        piece.count = p.count;
        piece.master = range->piece(p);
        piece.grad = shard.grad_later().narrow(0, p.local_begin, p.count);
      }
      pieces.push_back(std::move(piece));
    }
  }
  return pieces;
}

std::vector<SavedPiece> saved_pieces(ShardedModel& model, Optimizer* optimizer) {
  std::vector<SavedPiece> all;
  if (model.replicas().rank() != 0) return all;  // the first of those that own the same writes it
  for (auto& shard : model.shards()) {
    FlatRange* range = shard->trainable();
    if (!range) continue;
    for (const ShardPiece& p : range->layout.pieces(model.split_group().rank()))
      if (p.parameter->slice.copy == 0)
        all.push_back({place_of_master(*p.parameter, p.begin, p.count), range->piece(p)});
  }
  if (!optimizer) return all;
  std::map<std::string, const Parameter*> parameters;
  for (const Parameter* p : model.model().parameters()) parameters[p->name] = p;
  for (const StateTensor& state : optimizer->state()) {
    const Parameter& parameter = *parameters.at(state.name);
    if (state.saved && parameter.slice.copy == 0) all.push_back({place_of_state(parameter, state), state.value});
  }
  return all;
}

void save_checkpoint(const std::filesystem::path& directory, ShardedModel& model, Optimizer& optimizer,
                     const Value& header, StateDict kind) {
  // The model keeps its group; the saver goes before it.
  CheckpointSaver saver(std::shared_ptr<ProcessGroup>(&model.group(), [](ProcessGroup*) {}), model.device(), kind);
  if (saver.start(directory, saved_pieces(model, &optimizer), header)) saver.finish();
}

}  // namespace ft
