#include "engine/formats/tensor_source.h"

#include <random>

#include "engine/formats/safetensors.h"
#include "engine/formats/torch_file.h"
#include "engine/formats/zip_file.h"
#include "engine/tensor/half.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using test::slurp;
using test::spill;
using test::TemporaryDirectory;

fs::path golden(const std::string& name) { return fs::path(FT_GOLDEN_DIR) / "foreign" / name; }

std::string read_all(const TensorSource& source, const SourceTensor& tensor, int64_t begin, int64_t count) {
  std::string bytes(static_cast<size_t>(count) * byte_size(tensor.dtype), '\xee');
  source.read(tensor, begin, count, bytes.data());
  return bytes;
}

std::string read_all(const SafetensorsFile& file, const TensorEntry& entry) {
  std::string bytes(entry.bytes(), '\0');
  file.read(entry, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

// Equal names, shapes, dtypes and bytes; whole, and by ranges that begin and end anywhere.
void expect_equal(const TensorSource& source, const fs::path& want, size_t tensors = 0) {
  const SafetensorsFile file(want);
  EXPECT_EQ(source.tensors().size(), tensors ? tensors : file.entries().size());
  std::mt19937 random(1);
  for (const SourceTensor& tensor : source.tensors()) {
    const TensorEntry* entry = file.find(tensor.name);
    ASSERT_NE(entry, nullptr) << tensor.name;
    EXPECT_EQ(tensor.dtype, entry->dtype) << tensor.name;
    EXPECT_EQ(tensor.shape, entry->shape) << tensor.name;
    const std::string bytes = read_all(file, *entry);
    EXPECT_EQ(read_all(source, tensor, 0, tensor.numel()), bytes) << tensor.name;
    const auto width = static_cast<int64_t>(byte_size(tensor.dtype));
    for (int i = 0; i < 20 && tensor.numel() > 0; ++i) {
      const int64_t begin = static_cast<int64_t>(random()) % tensor.numel();
      const int64_t count = static_cast<int64_t>(random()) % (tensor.numel() - begin + 1);
      EXPECT_EQ(read_all(source, tensor, begin, count),
                bytes.substr(static_cast<size_t>(begin * width), static_cast<size_t>(count * width)))
          << tensor.name << " from " << begin << ", " << count;
    }
  }
}

TEST(TensorSource, ReadsWhatAccelerateSavesOfFsdp) {
  EXPECT_EQ(source_kind(golden("dcp/pytorch_model_fsdp_0")), SourceKind::dcp);
  expect_equal(open_tensor_source(golden("dcp/pytorch_model_fsdp_0")), golden("model/model.safetensors"));
}

TEST(TensorSource, ReadsGridsOfPiecesAndRanksWithoutRows) {
  const TensorSource source = open_tensor_source(golden("dcp_grid"));
  ASSERT_NE(source.find("five"), nullptr);
  EXPECT_EQ(source.find("five")->pieces.size(), 3u) << "of four ranks one has no row";
  EXPECT_EQ(source.find("model.layers.0.mlp.up_proj.weight")->pieces.size(), 4u);
  const SafetensorsFile model(golden("model/model.safetensors"));
  for (const SourceTensor& tensor : source.tensors()) {
    if (tensor.name == "five") continue;
    EXPECT_EQ(read_all(source, tensor, 0, tensor.numel()), read_all(model, *model.find(tensor.name))) << tensor.name;
    EXPECT_EQ(read_all(source, tensor, 7, 5), read_all(model, *model.find(tensor.name)).substr(28, 20));
  }
  float five[15];
  source.read(*source.find("five"), 0, 15, five);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(five[i], i);
}

TEST(TensorSource, TakesTheModelOfWhatHoldsAnOptimizerToo) {
  expect_equal(open_tensor_source(golden("dcp_with_optimizer")), golden("model/model.safetensors"), 2);
}

TEST(TensorSource, ReadsShardedSafetensors) {
  EXPECT_EQ(source_kind(golden("sharded_safetensors")), SourceKind::sharded_safetensors);
  expect_equal(open_tensor_source(golden("sharded_safetensors")), golden("model/model.safetensors"));
}

TEST(TensorSource, ReadsPytorchFiles) {
  expect_equal(open_tensor_source(golden("bin")), golden("model/model.safetensors"));
  expect_equal(open_tensor_source(golden("bin/pytorch_model.bin")), golden("model/model.safetensors"));
  expect_equal(open_tensor_source(golden("bin_sharded")), golden("model/model.safetensors"));
}

TEST(TensorSource, ReadsViewsAndEveryDtype) {
  expect_equal(open_tensor_source(golden("bin_odd/odd.pt")), golden("bin_odd/odd.safetensors"));
  expect_equal(open_tensor_source(golden("bin_odd/old.pt")), golden("bin_odd/odd.safetensors"));  // of torch before 1.6
}

TEST(TensorSource, RefusesOldFilesThatAreNotWhole) {
  const TemporaryDirectory directory;
  const std::string whole = slurp(golden("bin_odd/old.pt"));
  for (size_t cut = 0; cut < whole.size(); cut += 1 + cut % 13) {
    spill(directory / "old.pt", whole.substr(0, cut));
    const Error error = test::thrown([&] { open_tensor_source(directory / "old.pt"); });
    EXPECT_EQ(error.kind(), ErrorKind::format) << cut << ": " << error.what();
  }
}

// DeepSpeed keeps fp32 masters of bf16 weights; what is frozen stays bf16.
TEST(TensorSource, ReadsDeepSpeedOfEveryStage) {
  const SafetensorsFile want(golden("zero.safetensors"));
  for (const char* kind : {"zero1", "zero2", "zero3", "zero3/step1"}) {
    SCOPED_TRACE(kind);
    EXPECT_EQ(source_kind(golden(kind)), SourceKind::zero);
    const TensorSource source = open_tensor_source(golden(kind));
    EXPECT_EQ(source.tensors().size(), want.entries().size());
    for (const TensorEntry& entry : want.entries()) {
      const SourceTensor* tensor = source.find(entry.name);
      ASSERT_NE(tensor, nullptr) << entry.name;
      EXPECT_EQ(tensor->shape, entry.shape);
      std::vector<float> got(static_cast<size_t>(entry.numel())), wanted(got.size());
      const std::string bytes = read_all(source, *tensor, 0, tensor->numel()), others = read_all(want, entry);
      to_fp32(tensor->dtype, bytes.data(), tensor->numel(), got.data());
      to_fp32(entry.dtype, others.data(), entry.numel(), wanted.data());
      EXPECT_EQ(got, wanted) << entry.name;
    }
  }
}

TEST(TensorSource, KnowsWhatItIsNot) {
  const TemporaryDirectory directory;
  EXPECT_EQ(source_kind(directory.path()), SourceKind::none);
  EXPECT_EQ(source_kind(golden("model")), SourceKind::none);
  EXPECT_EQ(source_kind(directory / "absent"), SourceKind::none);
  EXPECT_ERROR(open_tensor_source(directory.path()), config, "no checkpoint of a kind");
}

// Copies a golden directory, and replaces bytes of one file.
void copy_changed(const std::string& kind, const TemporaryDirectory& to, const std::string& file,
                  const std::function<void(std::string&)>& change) {
  fs::remove_all(to / "copy");
  fs::copy(golden(kind), to / "copy", fs::copy_options::recursive);
  std::string bytes = slurp(to / ("copy/" + file));
  change(bytes);
  spill(to / ("copy/" + file), bytes);
}

void replace(std::string& bytes, const std::string& from, const std::string& to) {
  const size_t at = bytes.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  bytes.replace(at, from.size(), to);
}

TEST(TensorSource, RefusesFilesCutShort) {
  const TemporaryDirectory directory;
  for (const auto& [kind, file] : {std::pair<std::string, std::string>("dcp/pytorch_model_fsdp_0", ".metadata"),
                                   {"dcp/pytorch_model_fsdp_0", "__1_0.distcp"},
                                   {"bin", "pytorch_model.bin"},
                                   {"zero2", "step1/mp_rank_00_model_states.pt"},
                                   {"zero3", "step1/bf16_zero_pp_rank_2_mp_rank_00_optim_states.pt"},
                                   {"sharded_safetensors", "shard-00001-model-00001-of-00001.safetensors"}})
    for (const size_t part : {0, 1, 500, 999}) {
      copy_changed(kind, directory, file, [&](std::string& bytes) { bytes.resize(bytes.size() * part / 1000); });
      const Error error = test::thrown([&] { open_tensor_source(directory / "copy"); });
      EXPECT_TRUE(error.kind() == ErrorKind::format || error.kind() == ErrorKind::io) << kind << ": " << error.what();
    }
}

TEST(TensorSource, RefusesRanksThatAreMissing) {
  const TemporaryDirectory directory;
  fs::copy(golden("zero3"), directory / "zero3", fs::copy_options::recursive);
  fs::remove(directory / "zero3/step1/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt");
  EXPECT_ERROR(open_tensor_source(directory / "zero3"), format, "holds 2 *_optim_states.pt, want 3");
  fs::copy(golden("dcp/pytorch_model_fsdp_0"), directory / "dcp", fs::copy_options::recursive);
  fs::remove(directory / "dcp/__1_0.distcp");
  EXPECT_ERROR(open_tensor_source(directory / "dcp"), io, "__1_0.distcp");
  fs::copy(golden("sharded_safetensors"), directory / "shards", fs::copy_options::recursive);
  fs::remove(directory / "shards/shard-00001-model-00001-of-00001.safetensors");
  EXPECT_ERROR(open_tensor_source(directory / "shards"), format, "has pieces of");
}

TEST(TensorSource, RefusesMetadataThatDoesNotFitItsFiles) {
  const TemporaryDirectory directory;
  const std::string kind = "dcp/pytorch_model_fsdp_0";
  copy_changed(kind, directory, ".metadata",
               [](std::string& bytes) { replace(bytes, "__1_0.distcp", "../../distcp"); });
  EXPECT_ERROR(open_tensor_source(directory / "copy"), format, "outside the directory");
  copy_changed(kind, directory, ".metadata",
               [](std::string& bytes) { replace(bytes, "TensorStorageMetadata", "TensorStorageMetaData"); });
  EXPECT_ERROR(open_tensor_source(directory / "copy"), format, "metadata.TensorStorageMetaData");
  copy_changed(kind, directory, "__0_0.distcp",
               [](std::string& bytes) { replace(bytes, "FloatStorage", "IntSStorage!"); });
  EXPECT_ERROR(open_tensor_source(directory / "copy"), format, "torch.IntSStorage!");
  copy_changed(kind, directory, "__0_0.distcp", [](std::string& bytes) { replace(bytes, "little", "big!!!"); });
  EXPECT_ERROR(open_tensor_source(directory / "copy"), format, "byte order");
}

// Any byte of a file may be wrong: a message, or other values, never a crash or a read past the end.
TEST(TensorSource, SurvivesEveryByteChanged) {
  const TemporaryDirectory directory;
  std::mt19937 random(5);
  for (const auto& [kind, file] : {std::pair<std::string, std::string>("bin_odd", "odd.pt"),
                                   {"bin_odd", "old.pt"},
                                   {"dcp_grid", ".metadata"},
                                   {"dcp_grid", "__1_0.distcp"}}) {
    const std::string whole = slurp(golden(kind + "/" + file));
    fs::remove_all(directory / "copy");
    fs::copy(golden(kind), directory / "copy", fs::copy_options::recursive);
    const fs::path input = kind == "bin_odd" ? directory / ("copy/" + file) : directory / "copy";
    for (size_t at = 0; at < whole.size(); at += 1 + random() % 29) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(random());
      spill(directory / ("copy/" + file), bytes);
      try {
        const TensorSource source = open_tensor_source(input);
        for (const SourceTensor& tensor : source.tensors())
          if (tensor.numel() < 1'000'000) read_all(source, tensor, 0, tensor.numel());
      } catch (const Error& error) {
        EXPECT_NE(error.kind(), ErrorKind::internal) << error.what();
      }
    }
  }
}

TEST(ZipFile, ListsStoredMembersAndRefusesOthers) {
  const TemporaryDirectory directory;
  const std::string whole = slurp(golden("bin_odd/odd.pt"));
  spill(directory / "shifted", "before" + whole + "after");
  const InputFile file(directory / "shifted");
  const std::vector<ZipMember> members = read_zip(file, 6, whole.size());
  EXPECT_GT(members.size(), 5u);
  EXPECT_EQ(members[0].name, "odd/data.pkl");
  EXPECT_ERROR(read_zip(file, 6, whole.size() - 1), format, "no end of a ZIP archive");
  EXPECT_ERROR(read_zip(file, 6, file.size()), format, "truncated");
  std::string packed = whole;
  packed[packed.find("PK\1\2") + 10] = 8;  // deflated
  spill(directory / "packed", packed);
  EXPECT_ERROR(read_zip(InputFile(directory / "packed"), 0, packed.size()), format, "compressed");
}

}  // namespace
}  // namespace ft
