#include "engine/train/save.h"

#include "engine/parallel/scalar_type.h"
#include "engine/train/checkpoint_saver.h"

namespace ft {
std::vector<OptimizerPiece> optimizer_pieces(ShardedModel& model) {
  std::vector<OptimizerPiece> pieces;
  const size_t units = model.shards().size();
  for (size_t unit = 0; unit < units; ++unit) {
    ShardUnit& shard = *model.shards()[unit];
    FlatRange* range = shard.trainable();
    if (!range) continue;
    const std::vector<ShardPiece> owned = range->layout.pieces(model.split_group().rank());
    for (const Parameter* parameter : range->layout.parameters()) {
      OptimizerPiece piece;
      piece.name = parameter->name;
      piece.numel = parameter->numel();
      piece.shape = parameter->shape;
      piece.decay = parameter->shape.size() > 1;
      piece.hidden = unit > 0 && unit + 1 < units;  // the first unit embeds, the last is the head
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

std::vector<SavedPiece> saved_pieces(ShardedModel& model, Optimizer& optimizer) {
  std::vector<SavedPiece> all;
  if (model.replicas().rank() != 0) return all;  // the first of those that own the same writes it
  for (auto& shard : model.shards()) {
    FlatRange* range = shard->trainable();
    if (!range) continue;
    for (const ShardPiece& p : range->layout.pieces(model.split_group().rank()))
      all.push_back({{p.parameter->name, "master", DType::f32, p.parameter->shape, p.begin, p.count}, range->piece(p)});
  }
  std::map<std::string, int64_t> numel;
  for (const Parameter* p : model.model().parameters()) numel[p->name] = p->numel();
  for (const StateTensor& state : optimizer.state()) {
    if (!state.saved) continue;
    const int64_t entries = (numel.at(state.name) + state.elements_per_entry - 1) / state.elements_per_entry;
    all.push_back({{state.name, state.key, dtype_of(state.value.scalar_type()), {entries}, state.begin, state.count},
                   state.value});
  }
  return all;
}

void save_checkpoint(const std::filesystem::path& directory, ShardedModel& model, Optimizer& optimizer,
                     const Value& header) {
  // The model keeps its group; the saver goes before it.
  CheckpointSaver saver(std::shared_ptr<ProcessGroup>(&model.group(), [](ProcessGroup*) {}));
  if (saver.start(directory, saved_pieces(model, optimizer), header)) saver.finish(0);
}

}  // namespace ft
