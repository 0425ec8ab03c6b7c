#include <cstring>

#include "engine/formats/dcp_writer.h"
#include "engine/formats/tensor_source.h"
#include "engine/merge/merge.h"
#include "tests/engine/merge/merge_run.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using test::TemporaryDirectory;

fs::path foreign(const std::string& name) { return fs::path(FT_GOLDEN_DIR) / "foreign" / name; }

std::string bytes_of(const ModelDirectory& model, const TensorEntry& entry) {
  std::string bytes(entry.bytes(), '\0');
  model.read(entry.name, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

void expect_same_model(const fs::path& got, const fs::path& want) {
  const ModelDirectory merged(got), model(want);
  EXPECT_EQ(merged.names().size(), model.names().size());
  for (const TensorEntry* entry : model.tensors()) {
    const TensorEntry* found = merged.find(entry->name);
    ASSERT_NE(found, nullptr) << entry->name;
    EXPECT_EQ(found->dtype, entry->dtype) << entry->name;
    EXPECT_EQ(found->shape, entry->shape) << entry->name;
    EXPECT_EQ(bytes_of(merged, *found), bytes_of(model, *entry)) << entry->name;
  }
}

TEST(Foreign, MergesEveryKindIntoTheSameModel) {
  for (const char* kind :
       {"dcp/pytorch_model_fsdp_0", "dcp", "sharded_safetensors", "bin", "bin_sharded", "bin/pytorch_model.bin"}) {
    SCOPED_TRACE(kind);
    const TemporaryDirectory directory;
    const MergeReport report = merge({.input = foreign(kind), .output = directory / "out", .model = foreign("model")});
    EXPECT_EQ(report.step, 0);
    EXPECT_NE(report.source.find("from "), std::string::npos) << report.source;
    expect_same_model(directory / "out", foreign("model"));
    EXPECT_EQ(read_json(directory / "out/config.json").at("hidden_size").as_integer(), 16);
  }
}

TEST(Foreign, MergesDeepSpeedToTheDtypeAskedFor) {
  for (const char* kind : {"zero1", "zero2", "zero3"}) {
    SCOPED_TRACE(kind);
    const TemporaryDirectory directory;
    fs::copy(foreign(kind), directory / "checkpoint-1", fs::copy_options::recursive);
    fs::copy(foreign("model/config.json"), directory / "config.json");
    const MergeReport report = merge({.input = directory / "checkpoint-1/", .dtype = DType::f32, .shard_size = 8000});
    EXPECT_EQ(report.output, directory / "checkpoint-1-merged");
    EXPECT_TRUE(fs::exists(report.output / "model.safetensors.index.json"));
    const ModelDirectory merged(report.output);
    const SafetensorsFile want(foreign("zero.safetensors"));
    for (const TensorEntry& entry : want.entries()) {
      if (entry.dtype != DType::f32) continue;
      std::string bytes(entry.bytes(), '\0');
      want.read(entry, 0, std::as_writable_bytes(std::span(bytes)));
      EXPECT_EQ(bytes_of(merged, *merged.find(entry.name)), bytes) << entry.name;
    }
  }
}

TEST(Foreign, AsksForAConfigAndComparesWithTheBase) {
  const TemporaryDirectory directory;
  const fs::path input = directory / "a/b/c/checkpoint";
  fs::create_directories(input.parent_path());
  fs::copy(foreign("dcp"), input, fs::copy_options::recursive);
  EXPECT_ERROR(merge({.input = input}), config, "--model DIR");
  EXPECT_ERROR(merge({.input = input, .output = directory / "out", .model = test::golden("base_fp32")}), shape,
               "wrongly shaped");
  EXPECT_FALSE(fs::exists(directory / "out"));
  EXPECT_ERROR(merge({.input = input, .model = foreign("model"), .adapter_only = true}), config, "--adapter-only");
  EXPECT_ERROR(merge({.input = directory.path()}), config, "run.json");
}

TEST(Foreign, LeavesNothingWhereAFileIsBroken) {
  const TemporaryDirectory directory;
  fs::copy(foreign("bin"), directory / "in", fs::copy_options::recursive);
  std::string bytes = test::slurp(directory / "in/pytorch_model.bin");
  bytes.replace(bytes.find("collections\nOrderedDict"), 23, "posix\nsystemNNNNNNNNNNN");
  test::spill(directory / "in/pytorch_model.bin", bytes);
  EXPECT_ERROR(merge({.input = directory / "in", .output = directory / "out", .model = foreign("model")}), format,
               "posix.system");
  EXPECT_FALSE(fs::exists(directory / "out"));
}

// What FSDP saves of a model that PEFT wraps: base and adapter in one checkpoint, by the wrappers' names.
TEST(Foreign, FoldsTheLoraOfAWrappedModel) {
  const TemporaryDirectory directory;
  fs::create_directories(directory / "in/pytorch_model_fsdp_0");
  DcpWriter writer(directory / "in/pytorch_model_fsdp_0", "model");
  const auto add = [&](const std::string& name, DType dtype, const std::vector<int64_t>& shape,
                       std::span<const std::byte> bytes) {
    writer.begin_tensor("base_model.model." + name, dtype, shape);
    writer.append(bytes);
    writer.end_tensor();
  };
  const ModelDirectory base(test::golden("base_fp32"));
  for (const TensorEntry* entry : base.tensors()) {
    std::string name = entry->name;
    const size_t at = name.find("_proj.weight");
    if (at != std::string::npos) name.replace(at, 12, "_proj.base_layer.weight");
    const std::string bytes = bytes_of(base, *entry);
    add(name, entry->dtype, entry->shape, std::as_bytes(std::span(bytes)));
  }
  for (const test::Trained& trained : test::golden_adapter()) {
    std::string name = trained.name;
    name.replace(name.rfind(".weight"), 7, ".default.weight");
    add(name, DType::f32, trained.shape, std::as_bytes(std::span(trained.values)));
  }
  writer.finish();
  fs::copy(test::golden("base_fp32") / "config.json", directory / "in/config.json");
  EXPECT_ERROR(merge({.input = directory / "in"}), config, "adapter_config.json");
  fs::copy(test::golden("adapter") / "adapter_config.json", directory / "in/adapter_config.json");
  const MergeReport report = merge({.input = directory / "in", .output = directory / "out"});
  EXPECT_EQ(report.folded, 7);
  test::write_run(directory / "run", test::golden("base_fp32"));
  test::write_checkpoint(directory / "run", 3, test::golden_adapter(), 2);
  merge({.input = directory / "run", .output = directory / "want"});
  EXPECT_EQ(test::slurp(directory / "out/model.safetensors"), test::slurp(directory / "want/model.safetensors"));
}

}  // namespace
}  // namespace ft
