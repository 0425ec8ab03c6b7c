#include "engine/formats/checkpoint.h"

#include <numeric>
#include <vector>

#include "engine/formats/checkpoint_links.h"
#include "engine/formats/json.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using test::slurp;
using test::spill;
using test::TemporaryDirectory;

constexpr int64_t kWeight = 7 * 5, kStep = 3;

float value(int64_t index, int kind) { return static_cast<float>(index + 1000 * kind); }

// A tensor w [7, 5] of two kinds and a replicated counter, cut at `cuts` between ranks.
std::vector<ShardRecord> write_shards(const fs::path& directory, const std::vector<int64_t>& cuts) {
  std::vector<ShardRecord> records;
  const int world = static_cast<int>(cuts.size()) - 1;
  for (int rank = 0; rank < world; ++rank) {
    std::vector<Piece> pieces;
    for (const char* kind : {"master", "exp_avg"})
      pieces.push_back({"w", kind, DType::f32, {7, 5}, cuts[rank], cuts[rank + 1] - cuts[rank]});
    if (rank == 0) pieces.push_back({"count", "state", DType::i64, {}, 0, 1});
    CheckpointShardWriter writer(directory, rank, world, pieces);
    for (int kind = 0; kind < 2; ++kind)
      for (int64_t i = cuts[rank]; i < cuts[rank + 1]; ++i) {
        const float x = value(i, kind);
        writer.append(std::as_bytes(std::span(&x, 1)));
      }
    const int64_t count = 42;
    if (rank == 0) writer.append(std::as_bytes(std::span(&count, 1)));
    // As ranks send it to rank 0.
    records.push_back(ShardRecord::from_value(parse_json(write_json(writer.finish().to_value()), "record")));
  }
  return records;
}

void save(const fs::path& directory, int64_t step, const std::vector<int64_t>& cuts = {0, 11, 11, kWeight}) {
  ASSERT_TRUE(prepare_checkpoint(directory));
  const auto records = write_shards(directory, cuts);
  write_manifest(directory, Value::map({{"step", step}, {"seed", 7}}), records);
}

void expect_whole(const Checkpoint& checkpoint) {
  for (int64_t begin = 0; begin < kWeight; ++begin)
    for (int64_t count = 0; begin + count <= kWeight; ++count) {
      std::vector<float> got(static_cast<size_t>(count) + 1, -1);
      checkpoint.read("w", "exp_avg", begin, count, got.data());
      for (int64_t i = 0; i < count; ++i) ASSERT_EQ(got[static_cast<size_t>(i)], value(begin + i, 1));
      ASSERT_EQ(got.back(), -1) << "nothing past the range is touched";
    }
}

TEST(Checkpoint, ReadsAnyRangeWhateverTheLayout) {
  const TemporaryDirectory run;
  const std::vector<std::vector<int64_t>> layouts = {{0, kWeight}, {0, 11, 11, kWeight}, {0, 1, 2, 20, kWeight}};
  for (size_t i = 0; i < layouts.size(); ++i) {
    const fs::path directory = run / ("checkpoint-" + std::to_string(i));
    save(directory, static_cast<int64_t>(i), layouts[i]);
    const Checkpoint checkpoint(directory);
    EXPECT_EQ(checkpoint.step(), static_cast<int64_t>(i));
    EXPECT_EQ(checkpoint.header().get("seed", 0), 7);
    expect_whole(checkpoint);
    checkpoint.verify();
    int64_t count = 0;
    checkpoint.read("count", "state", 0, 1, &count);
    EXPECT_EQ(count, 42);
    ASSERT_NE(checkpoint.find("w", "master"), nullptr);
    EXPECT_EQ(checkpoint.find("w", "master")->shape, (std::vector<int64_t>{7, 5}));
    EXPECT_FALSE(checkpoint.contains("w", "exp_avg_sq"));
    EXPECT_EQ(checkpoint.tensors().size(), 3u);
  }
}

TEST(Checkpoint, ShardsAreOrdinarySafetensors) {
  const TemporaryDirectory run;
  save(run / "checkpoint-3", kStep);
  const SafetensorsFile shard(run / "checkpoint-3/shard-00002-of-00003.safetensors");
  EXPECT_NE(shard.find("master:w@11"), nullptr);
}

TEST(Checkpoint, ReplicasMayHoldTheSamePiece) {
  const TemporaryDirectory run;
  const fs::path directory = run / "checkpoint-1";
  prepare_checkpoint(directory);
  std::vector<ShardRecord> records;
  for (int rank = 0; rank < 2; ++rank) {
    CheckpointShardWriter writer(directory, rank, 2, {{"w", "master", DType::f32, {4}, 0, 4}});
    const float values[] = {1, 2, 3, 4};
    writer.append(std::as_bytes(std::span(values)));
    records.push_back(writer.finish());
  }
  write_manifest(directory, Value::map({{"step", 1}}), records);
  float got[2];
  Checkpoint(directory).read("w", "master", 1, 2, got);
  EXPECT_EQ(got[1], 3);
}

TEST(Checkpoint, SaysWhatNoShardHolds) {
  const TemporaryDirectory run;
  const fs::path directory = run / "checkpoint-3";
  prepare_checkpoint(directory);
  auto records = write_shards(directory, {0, 11, 20, kWeight});
  records.erase(records.begin() + 1);
  write_manifest(directory, Value::map({{"step", kStep}}), records);
  const Checkpoint checkpoint(directory);
  std::vector<float> got(kWeight);
  checkpoint.read("w", "master", 0, 11, got.data());
  checkpoint.read("w", "master", 20, 15, got.data());
  EXPECT_ERROR(checkpoint.read("w", "master", 5, 20, got.data()), format,
               "w: no shard holds element 11 of 'master' [7, 5]");
  EXPECT_ERROR(checkpoint.read("v", "master", 0, 1, got.data()), format, "v: holds no 'master'");
}

TEST(Checkpoint, WithoutAManifestItIsNone) {
  const TemporaryDirectory run;
  save(run / "checkpoint-1", 1);
  prepare_checkpoint(run / "checkpoint-2");
  write_shards(run / "checkpoint-2", {0, kWeight});  // killed before the manifest
  EXPECT_ERROR(Checkpoint(run / "checkpoint-2"), format, "holds no manifest.json");
  EXPECT_EQ(newest_checkpoint(run.path()), run / "checkpoint-1");
  save(run / "checkpoint-10", 10);
  EXPECT_EQ(newest_checkpoint(run.path()), run / "checkpoint-10");
  EXPECT_EQ(list_checkpoints(run.path()).size(), 2u);
  EXPECT_EQ(newest_checkpoint(run / "absent"), std::nullopt);
}

// Every way in which a save may be cut short: the manifest at any length, a shard at another.
TEST(Checkpoint, NothingHalfWrittenIsTakenForOne) {
  const TemporaryDirectory run;
  save(run / "checkpoint-1", 1);
  const std::string manifest = slurp(run / "checkpoint-1/manifest.json");
  for (size_t size = 0; size + 2 < manifest.size(); size += 7) {
    spill(run / "checkpoint-1/manifest.json", manifest.substr(0, size));
    EXPECT_EQ(newest_checkpoint(run.path()), std::nullopt) << size;
  }
  spill(run / "checkpoint-1/manifest.json", manifest);
  EXPECT_TRUE(newest_checkpoint(run.path()).has_value());
  const fs::path shard = run / "checkpoint-1/shard-00002-of-00003.safetensors";
  const std::string bytes = slurp(shard);
  spill(shard, bytes.substr(0, bytes.size() - 1));
  EXPECT_ERROR(Checkpoint(run / "checkpoint-1"), format, "its manifest says " + std::to_string(bytes.size()));
  fs::remove(shard);
  EXPECT_ERROR(Checkpoint(run / "checkpoint-1"), format, "lacks shard-00002-of-00003.safetensors");
  EXPECT_EQ(newest_checkpoint(run.path()), std::nullopt);
}

TEST(Checkpoint, VerifyNamesTheShardThatChanged) {
  const TemporaryDirectory run;
  save(run / "checkpoint-1", 1);
  const fs::path shard = run / "checkpoint-1/shard-00000-of-00003.safetensors";
  std::string bytes = slurp(shard);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  spill(shard, bytes);
  const Checkpoint checkpoint(run / "checkpoint-1");
  EXPECT_ERROR(checkpoint.verify(), format, "shard-00000-of-00003.safetensors: has checksum");
}

// w [7, 5] in columns of 2 and of 3, the second again cut in two in the middle of a row.
void save_columns(const fs::path& directory, bool with_last = true) {
  struct Part {
    ColumnSlice columns;
    int64_t begin, count;
  };
  const std::vector<Part> parts{{{0, 2}, 0, 14}, {{2, 3}, 0, 10}, {{2, 3}, 10, 11}};
  ASSERT_TRUE(prepare_checkpoint(directory));
  std::vector<ShardRecord> records;
  for (size_t rank = 0; rank < parts.size() - (with_last ? 0 : 1); ++rank) {
    const Part& part = parts[rank];
    const Piece piece{"w", "exp_avg", DType::f32, {7, 5}, part.begin, part.count, part.columns};
    CheckpointShardWriter writer(directory, static_cast<int>(rank), 3, {piece});
    for (int64_t i = part.begin; i < part.begin + part.count; ++i) {
      const float x = value(i / part.columns.count * 5 + part.columns.begin + i % part.columns.count, 1);
      writer.append(std::as_bytes(std::span(&x, 1)));
    }
    records.push_back(ShardRecord::from_value(parse_json(write_json(writer.finish().to_value()), "record")));
    EXPECT_EQ(records.back().pieces, std::vector{piece});
  }
  write_manifest(directory, Value::map({{"step", 1}}), records);
}

TEST(Checkpoint, ReadsAnyRangeOfWhatWasWrittenInColumns) {
  const TemporaryDirectory run;
  save_columns(run / "checkpoint-1");
  expect_whole(Checkpoint(run / "checkpoint-1"));
  EXPECT_EQ(read_json(run / "checkpoint-1/manifest.json").at("format_version"), 2);
  save(run / "checkpoint-2", 2);
  EXPECT_EQ(read_json(run / "checkpoint-2/manifest.json").at("format_version"), 1) << "older ftengines read it";
}

TEST(Checkpoint, MissesColumnsThatNoShardHolds) {
  const TemporaryDirectory run;
  save_columns(run / "checkpoint-1", /*with_last=*/false);
  const Checkpoint checkpoint(run / "checkpoint-1");
  std::vector<float> got(kWeight);
  EXPECT_NO_THROW(checkpoint.read("w", "exp_avg", 0, 18, got.data()));
  EXPECT_ERROR(checkpoint.read("w", "exp_avg", 0, 19, got.data()), format, "no shard holds element 18 of 'exp_avg'");
}

TEST(Checkpoint, RefusesColumnsThatTheMatrixHasNot) {
  const TemporaryDirectory run;
  save_columns(run / "checkpoint-1");
  const fs::path manifest = run / "checkpoint-1/manifest.json";
  const Value whole = read_json(manifest);
  for (const Value& columns : {Value::list({2, 4}), Value::list({-1, 2}), Value::list({0, 0}), Value::list({1})}) {
    Value lying = whole;
    lying.find("shards")->as_list()[1].find("pieces")->as_list()[0].set("columns", columns);
    spill(manifest, write_json(lying));
    EXPECT_ERROR(Checkpoint(run / "checkpoint-1"), format, "got columns");
  }
}

TEST(Checkpoint, RefusesANewerFormatByName) {
  const TemporaryDirectory run;
  save(run / "checkpoint-1", 1);
  save(run / "checkpoint-2", 2);
  const fs::path manifest = run / "checkpoint-2/manifest.json";
  Value value = read_json(manifest);
  value.set("format_version", 3);
  spill(manifest, write_json(value));
  EXPECT_ERROR(Checkpoint(run / "checkpoint-2"), format, "has checkpoint format 3, this ftengine reads up to 2");
  EXPECT_ERROR(newest_checkpoint(run.path()), format, "has checkpoint format 3");
  EXPECT_EQ(list_checkpoints(run.path()).size(), 1u);
}

TEST(Checkpoint, RefusesManifestsThatLie) {
  const TemporaryDirectory run;
  save(run / "checkpoint-1", 1);
  const fs::path manifest = run / "checkpoint-1/manifest.json";
  const std::string whole = slurp(manifest);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    EXPECT_NE(text.find(from), std::string::npos) << from;
    text.replace(text.find(from), from.size(), to);
    spill(manifest, text);
  };
  with("ftengine-checkpoint", "something");
  EXPECT_ERROR(Checkpoint(run / "checkpoint-1"), format, "is no manifest");
  with("\"step\"", "\"stop\"");
  EXPECT_ERROR(Checkpoint(run / "checkpoint-1"), format, "header with a step");
  with("\"shard-00000", "\"../shard-00000");
  EXPECT_ERROR(Checkpoint(run / "checkpoint-1"), format, "want a name in the checkpoint's directory");
  with("\"shape\": [7, 5]", "\"shape\": [1, 5]");
  EXPECT_EQ(test::thrown([&] { Checkpoint c(run / "checkpoint-1"); }).kind(), ErrorKind::format);
  with("\"shape\": [7, 5]", "\"shape\": [5, 7]");
  EXPECT_ERROR(Checkpoint(run / "checkpoint-1"), format, "another piece has");
  with("\"begin\": 0", "\"begin\": 1");
  EXPECT_ERROR(Checkpoint(run / "checkpoint-1"), format, "does not hold the piece");
  with("\"count\": 11", "\"count\": -11");
  EXPECT_EQ(test::thrown([&] { Checkpoint c(run / "checkpoint-1"); }).kind(), ErrorKind::format);
  with("\"pieces\"", "\"peaces\"");
  EXPECT_ERROR(Checkpoint(run / "checkpoint-1"), format, "pieces: is missing");
}

TEST(Checkpoint, PrepareClearsLeftoversAndSparesAWholeOne) {
  const TemporaryDirectory run;
  const fs::path directory = run / "checkpoint-1";
  prepare_checkpoint(directory);
  write_shards(directory, {0, 5, kWeight});
  EXPECT_TRUE(prepare_checkpoint(directory));
  EXPECT_TRUE(fs::is_empty(directory));
  save(directory, 1);
  EXPECT_FALSE(prepare_checkpoint(directory));
  expect_whole(Checkpoint(directory));
  spill(directory / "manifest.json", "{");
  EXPECT_TRUE(prepare_checkpoint(directory));
  EXPECT_TRUE(fs::is_empty(directory));
}

TEST(Checkpoint, PruneKeepsTheNewest) {
  const TemporaryDirectory run;
  for (const int64_t step : {9, 10, 100, 20}) save(run / ("checkpoint-" + std::to_string(step)), step);
  prepare_checkpoint(run / "checkpoint-300");  // not whole: neither counted nor touched
  spill(run / "checkpoint-best/manifest.json", "{}");
  prune_checkpoints(run.path(), 0);
  EXPECT_EQ(list_checkpoints(run.path()).size(), 4u);
  prune_checkpoints(run.path(), 2);
  EXPECT_EQ(list_checkpoints(run.path()), (std::vector<fs::path>{run / "checkpoint-20", run / "checkpoint-100"}));
  EXPECT_FALSE(fs::exists(run / "checkpoint-9"));
  EXPECT_TRUE(fs::exists(run / "checkpoint-300"));
  EXPECT_TRUE(fs::exists(run / "checkpoint-best"));
}

// As a run does: a checkpoint is linked once it is whole, then those that are not kept go.
void save_and_link(const TemporaryDirectory& run, int64_t step, std::optional<double> loss, int64_t keep) {
  const fs::path directory = run / ("checkpoint-" + std::to_string(step));
  prepare_checkpoint(directory);
  Value header = Value::map({{"step", step}});
  if (loss) header.set(kValidationLoss, *loss);
  write_manifest(directory, header, write_shards(directory, {0, kWeight}));
  EXPECT_TRUE(link_checkpoint(directory).empty());
  prune_checkpoints(run.path(), keep);
}

TEST(CheckpointLinks, NameTheNewestAndTheBestWhichStay) {
  const TemporaryDirectory run;
  const auto named = [&](const char* link) { return linked_checkpoint(run.path(), link).value_or("none").filename(); };
  save_and_link(run, 1, std::nullopt, 1);
  EXPECT_EQ(named(kLatestLink), "checkpoint-1");
  EXPECT_EQ(named(kBestLink), "none") << "nothing was measured";
  save_and_link(run, 2, 3.0, 1);
  save_and_link(run, 3, 2.5, 1);
  save_and_link(run, 4, 2.75, 1);
  save_and_link(run, 5, 2.5, 1);  // no better: the first of them stays
  save_and_link(run, 6, std::nullopt, 1);
  EXPECT_EQ(named(kLatestLink), "checkpoint-6");
  EXPECT_EQ(named(kBestLink), "checkpoint-3");
  EXPECT_EQ(list_checkpoints(run.path()), (std::vector<fs::path>{run / "checkpoint-3", run / "checkpoint-6"}));
  EXPECT_EQ(newest_checkpoint(run.path()), run / "checkpoint-6");
  expect_whole(Checkpoint(run / "best"));
  EXPECT_EQ(without_link(run / "best"), run / "checkpoint-3");
  EXPECT_EQ(without_link(run / "checkpoint-6"), run / "checkpoint-6");
  save_and_link(run, 7, 2.0, 1);
  EXPECT_EQ(list_checkpoints(run.path()), (std::vector<fs::path>{run / "checkpoint-7"}));
}

TEST(CheckpointLinks, LeaveAPlaceThatIsTaken) {
  const TemporaryDirectory run;
  save(run / "checkpoint-1", 1);
  spill(run / "latest/manifest.json", "{}");
  const auto failed = link_checkpoint(run / "checkpoint-1");
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_NE(failed[0].find("latest is no link"), std::string::npos) << failed[0];
  EXPECT_EQ(linked_checkpoint(run.path(), kLatestLink), std::nullopt);
  fs::create_directory_symlink("checkpoint-9", run / "best");  // gone, and so taken over
  EXPECT_EQ(linked_checkpoint(run.path(), kBestLink), std::nullopt);
  fs::remove(run / "best");
  fs::create_directory_symlink("/tmp", run / "best");
  EXPECT_EQ(linked_checkpoint(run.path(), kBestLink), std::nullopt) << "only what lies in the run is its";
}

TEST(Checkpoint, ACourseThatWasLeftIsRemoved) {
  const TemporaryDirectory run;
  for (const int64_t step : {2, 4, 6, 8}) save(run / ("checkpoint-" + std::to_string(step)), step);
  remove_checkpoints_after(run.path(), 4);
  EXPECT_EQ(list_checkpoints(run.path()), (std::vector<fs::path>{run / "checkpoint-2", run / "checkpoint-4"}));
}

TEST(Checkpoint, ReadsStepsFromNames) {
  EXPECT_EQ(checkpoint_step("runs/a/checkpoint-200"), 200);
  EXPECT_EQ(checkpoint_step("checkpoint-200/"), 200);
  EXPECT_EQ(checkpoint_step("checkpoint-"), std::nullopt);
  EXPECT_EQ(checkpoint_step("checkpoint-2x"), std::nullopt);
  EXPECT_EQ(checkpoint_step("step-2"), std::nullopt);
}

}  // namespace
}  // namespace ft
