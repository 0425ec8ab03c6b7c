#include "engine/train/save.h"

#include <span>

#include "engine/error/error.h"
#include "engine/formats/checkpoint.h"
#include "engine/formats/json.h"
#include "engine/parallel/scalar_type.h"

namespace ft {
namespace {

// What a rank writes: a piece's record and where its bytes lie.
struct Saved {
  Piece piece;
  at::Tensor value;
};

std::vector<Saved> collect(ShardedModel& model, Optimizer& optimizer) {
  std::vector<Saved> all;
  for (auto& shard : model.shards()) {
    FlatRange* range = shard->trainable();
    if (!range) continue;
    for (const ShardPiece& p : range->layout.pieces(model.group().rank()))
      all.push_back({{p.parameter->name, "master", DType::f32, p.parameter->shape, p.begin, p.count}, range->piece(p)});
  }
  std::map<std::string, int64_t> numel;
  for (const Parameter* p : model.model().parameters()) numel[p->name] = p->numel();
  for (const StateTensor& state : optimizer.state()) {
    const int64_t entries = (numel.at(state.name) + state.elements_per_entry - 1) / state.elements_per_entry;
    all.push_back({{state.name, state.key, dtype_of(state.value.scalar_type()), {entries}, state.begin, state.count},
                   state.value});
  }
  return all;
}

ShardRecord write_shard(const std::filesystem::path& directory, const ProcessGroup& group,
                        const std::vector<Saved>& all) {
  std::vector<Piece> pieces;
  for (const Saved& saved : all) pieces.push_back(saved.piece);
  CheckpointShardWriter writer(directory, group.rank(), group.size(), std::move(pieces));
  for (const Saved& saved : all) {
    if (saved.piece.count == 0) continue;
    writer.append({static_cast<const std::byte*>(saved.value.data_ptr()), static_cast<size_t>(saved.value.nbytes())});
  }
  return writer.finish();
}

// Runs `action` on this rank and tells all ranks how it went. @return each rank's result.
template <class Action>
std::vector<std::string> on_every_rank(ProcessGroup& group, const Action& action) {
  std::string said;
  try {
    said = "+" + action();
  } catch (const Error& e) {
    said = "-" + e.message();
  }
  std::vector<std::string> results = group.all_gather_text(said);
  for (size_t rank = 0; rank < results.size(); ++rank) {
    if (results[rank].front() == '-')
      throw Error(ErrorKind::io, results[rank].substr(1)).context("saving on rank " + std::to_string(rank));
    results[rank].erase(0, 1);
  }
  return results;
}

}  // namespace

std::vector<OptimizerPiece> optimizer_pieces(ShardedModel& model) {
  std::vector<OptimizerPiece> pieces;
  for (auto& shard : model.shards()) {
    FlatRange* range = shard->trainable();
    if (!range) continue;
    for (const ShardPiece& p : range->layout.pieces(model.group().rank()))
      pieces.push_back({.name = p.parameter->name,
                        .numel = p.parameter->numel(),
                        .begin = p.begin,
                        .count = p.count,
                        .master = range->piece(p),
                        .grad = shard->grad().narrow(0, p.local_begin, p.count),
                        .decay = p.parameter->shape.size() > 1});
  }
  return pieces;
}

void save_checkpoint(const std::filesystem::path& directory, ShardedModel& model, Optimizer& optimizer,
                     const Value& header) {
  ProcessGroup& group = model.group();
  const auto prepared = on_every_rank(
      group, [&] { return std::string(group.rank() == 0 && !prepare_checkpoint(directory) ? "whole" : ""); });
  if (prepared[0] == "whole") return;
  const auto records = on_every_rank(
      group, [&] { return write_json(write_shard(directory, group, collect(model, optimizer)).to_value()); });
  on_every_rank(group, [&] {
    if (group.rank() != 0) return std::string();
    std::vector<ShardRecord> shards;
    for (const std::string& record : records)
      shards.push_back(ShardRecord::from_value(parse_json(record, "shard record")));
    write_manifest(directory, header, shards);
    return std::string();
  });
}

}  // namespace ft
