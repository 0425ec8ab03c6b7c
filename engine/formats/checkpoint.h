#pragma once
/// Sharded checkpoints. A directory `checkpoint-<step>` holds one `shard-00000-of-00002.safetensors` a rank, with the
/// pieces the rank owns as flat tensors, and one `manifest.json`, renamed into place last: without a valid manifest it
/// is no checkpoint. A piece is a flat range of a tensor or of some columns of a matrix, so any layout reads what any
/// other wrote.
///
/// Rank rule, for the writer: rank 0 calls prepare_checkpoint; all meet; every rank writes its shard and sends its
/// ShardRecord (as JSON text) to rank 0, which calls write_manifest. Nothing here talks to other ranks.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/formats/safetensors.h"
#include "engine/formats/saved_state.h"
#include "engine/schema/value.h"

namespace ft {

/// 2: pieces of columns. A checkpoint without any is written as 1.
inline constexpr int64_t kCheckpointVersion = 2;

/// Some columns of a matrix [rows, C], by themselves a matrix [rows, count].
struct ColumnSlice {
  int64_t begin = 0, count = 0;

  bool whole() const { return count == 0; }
  bool operator==(const ColumnSlice&) const = default;
};

/// A flat range [begin, begin + count) of one tensor of one kind, or of some of its columns.
struct Piece {
  std::string name;  ///< as on disk: "model.layers.0.mlp.up_proj.lora_A.weight"
  std::string kind;  ///< "master", "exp_avg", "exp_avg_sq", …
  DType dtype = DType::f32;
  std::vector<int64_t> shape;  ///< of the whole tensor
  int64_t begin = 0, count = 0;
  ColumnSlice columns{};  ///< begin and count are elements of these, flattened; all: of the whole tensor

  bool operator==(const Piece&) const = default;
};

/// What a rank wrote.
struct ShardRecord {
  std::string file;
  uint64_t bytes = 0;
  uint64_t checksum = 0;  ///< XXH3 of the file
  std::vector<Piece> pieces;

  Value to_value() const;
  /// @throws Error(format) for a value that is no record.
  static ShardRecord from_value(const Value& value);
};

/// Streams one rank's pieces into its shard.
class CheckpointShardWriter {
 public:
  /// @param pieces all that the rank will write; empty ones (count 0) are left out.
  CheckpointShardWriter(const std::filesystem::path& directory, int rank, int world, std::vector<Piece> pieces);

  const std::vector<Piece>& pieces() const { return record_.pieces; }
  /// The next bytes, in the order of pieces(); they may be cut anywhere.
  void append(std::span<const std::byte> bytes) { writer_->append(bytes); }
  ShardRecord finish();

 private:
  ShardRecord record_;
  std::unique_ptr<SafetensorsWriter> writer_;
};

/// Makes the directory ready to be written: creates it, or removes what an interrupted save left in it.
/// @return false when a whole checkpoint stands there already: nothing needs to be written.
bool prepare_checkpoint(const std::filesystem::path& directory);

/// Completes a checkpoint.   @param header at least `step`; the trainer's own keys are kept as they are.
void write_manifest(const std::filesystem::path& directory, const Value& header,
                    const std::vector<ShardRecord>& shards);

/// A whole checkpoint, open for reading. Reads are safe from any thread.
class Checkpoint final : public SavedState {
 public:
  /// @throws Error(format) for a directory without a manifest or with an invalid one, a newer format, shards that are
  /// missing or of another size; Error(io) for what cannot be read.
  explicit Checkpoint(const std::filesystem::path& directory);
  ~Checkpoint() override;

  /// From whichever pieces hold the range.
  void read(const std::string& name, const std::string& kind, int64_t begin, int64_t count, void* out) const override;
  /// Reads every shard whole and compares checksums.   @throws Error(format) naming the shard that differs.
  void verify() const;

 private:
  struct Range;
  struct Found;
  struct Shard;
  Found locate(size_t tensor, int64_t at) const;
  void add_shard(const Value& record);
  void add_piece(const Piece& piece, const Shard& shard);

  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<std::vector<Range>> ranges_;  // of each tensor, by begin
};

/// The step in a checkpoint directory's name, or nothing: "checkpoint-200" -> 200.
std::optional<int64_t> checkpoint_step(const std::filesystem::path& directory);
/// All checkpoints of a run, by step; directories without a valid manifest, or of a newer format, are passed over.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& run_directory);
/// True when it can be opened: a valid manifest, and all the shards that it tells of.
bool is_whole_checkpoint(const std::filesystem::path& directory);
/// The one with the most steps, or nothing.   @param passed_over why newer ones are not taken, each with its path; ones
/// whose writing was cut short before the manifest are not worth a word.
/// @throws Error(format) when a newer format stands after it: going on from an older one unasked would lose steps.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& run_directory,
                                                       std::string* passed_over = nullptr);
/// Removes all but the `keep` newest whole checkpoints and those that links name (manifest first, so that a
/// half-removed one is none); keep ≤ 0 removes nothing. Rank 0 alone calls it.
void prune_checkpoints(const std::filesystem::path& run_directory, int64_t keep);
/// Removes those of more steps: of a course that a run left when it went on from an older one. Rank 0 alone calls it.
void remove_checkpoints_after(const std::filesystem::path& run_directory, int64_t step);

}  // namespace ft
