#include "engine/formats/bnb_weight.h"

#include <random>

#include "engine/formats/model_directory.h"
#include "engine/quant/nf4.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using test::slurp;
using test::spill;
using test::TemporaryDirectory;

fs::path golden(const std::string& name) { return fs::path(FT_GOLDEN_DIR) / "foreign" / name; }

std::string bytes_of(const SafetensorsFile& file, const std::string& name) {
  const TensorEntry& entry = *file.find(name);
  std::string bytes(entry.bytes(), '\0');
  file.read(entry, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

const std::string kUp = "model.layers.0.mlp.up_proj.weight", kKey = "model.layers.0.self_attn.k_proj.weight";

TEST(BnbWeight, ShowsAsWhatBitsandbytesDequantizesItTo) {
  std::mt19937 random(3);
  for (const char* kind : {"bnb_nf4", "bnb_nf4_flat", "bnb_fp4"}) {
    SCOPED_TRACE(kind);
    const ModelDirectory model(golden(kind));
    const SafetensorsFile want(golden(std::string(kind) + ".safetensors"));
    EXPECT_EQ(model.tensors().size(), 11u) << "seven linears, three norms, the embedding; no scales, no maps";
    for (const std::string& name : {kUp, kKey}) {
      const TensorEntry* entry = model.find(name);
      ASSERT_NE(entry, nullptr);
      EXPECT_EQ(entry->dtype, DType::bf16);
      EXPECT_EQ(entry->shape, want.find(name)->shape);
      const std::string wanted = bytes_of(want, name);
      std::string got(entry->bytes(), '\0');
      model.read(name, 0, std::as_writable_bytes(std::span(got)));
      EXPECT_EQ(got, wanted);
      for (int i = 0; i < 50; ++i) {
        const size_t begin = random() % (got.size() / 2) * 2, count = random() % (got.size() / 2 - begin / 2) * 2;
        std::string part(count, '\0');
        model.read(name, begin, std::as_writable_bytes(std::span(part)));
        EXPECT_EQ(part, wanted.substr(begin, count));
      }
    }
    EXPECT_EQ(model.quantized(kUp)->double_quant(), std::string(kind) != "bnb_nf4_flat");
    EXPECT_EQ(model.quantized(kUp)->has_records(), std::string(kind) != "bnb_fp4");
    EXPECT_EQ(model.quantized("model.norm.weight"), nullptr);
    EXPECT_TRUE(model.has_quantized());
  }
}

TEST(BnbWeight, GivesItsBytesAsGroupRecords) {
  for (const char* kind : {"bnb_nf4", "bnb_nf4_flat"}) {
    SCOPED_TRACE(kind);
    const ModelDirectory model(golden(kind));
    const BnbWeight& weight = *model.quantized(kUp);
    const int64_t numel = 192 * 128, groups = nf4::num_groups(numel);
    ASSERT_EQ(groups, 2);
    const size_t record = nf4::record_bytes(weight.double_quant());
    std::vector<uint8_t> records(static_cast<size_t>(groups) * record), second(record);
    model.read_records(weight, 0, groups, records.data());
    model.read_records(weight, 1, 1, second.data());
    EXPECT_TRUE(std::equal(second.begin(), second.end(), records.begin() + static_cast<std::ptrdiff_t>(record)));
    std::string got(static_cast<size_t>(numel) * 2, '\0'), want(got.size(), '\0');
    nf4::dequantize({records.data(), weight.nested_offset(), weight.double_quant()}, 0, numel, DType::bf16, got.data());
    model.read(kUp, 0, std::as_writable_bytes(std::span(want)));
    EXPECT_EQ(got, want);
  }
}

// Copies a golden model with bytes of its file changed; same length.
void change(const TemporaryDirectory& directory, const std::string& from, const std::string& to) {
  fs::remove_all(directory / "copy");
  fs::copy(golden("bnb_nf4"), directory / "copy", fs::copy_options::recursive);
  std::string bytes = slurp(directory / "copy/model.safetensors");
  const size_t at = bytes.rfind(from);
  ASSERT_NE(at, std::string::npos);
  ASSERT_EQ(from.size(), to.size());
  bytes.replace(at, from.size(), to);
  spill(directory / "copy/model.safetensors", bytes);
}

TEST(BnbWeight, RefusesStatesThatDoNotFit) {
  const TemporaryDirectory directory;
  const auto refuses = [&](const std::string& from, const std::string& to, const std::string& message) {
    change(directory, from, to);
    const Error error = test::thrown([&] { ModelDirectory(directory / "copy"); });
    EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(".weight"), std::string::npos) << error.what();
  };
  refuses("\"blocksize\": 64,", "\"blocksize\": 63,", "has blocksize 63");
  refuses("\"blocksize\": 64,", "\"blocksize\": 32,", "for absmax, want");
  refuses("\"blocksize\": 64,", "\"blocksize\": 0, ", "has blocksize 0");
  refuses("\"dtype\": \"bfloat16\"", "\"dtype\": \"blofat61\"", "of dtype 'blofat61'");
  refuses("\"quant_type\": \"nf4\"", "\"quant_type\": \"nf5\"", "quantized as 'nf5'");
  refuses("\"nested_blocksize\": 256", "\"nested_blocksize\":  64", "for nested_absmax, want 2 of");
  refuses("\"nested_dtype\": \"float32\"", "\"nested_dtype\": \"float16\"", "another dtype");
  refuses("{\"quant_type\"", "{{quant_type\"", "");
}

TEST(ModelDirectory, OpensPytorchFilesAndOtherEnginesCheckpointsLikeSafetensors) {
  const TemporaryDirectory directory;
  for (const char* kind : {"bin", "bin_sharded", "dcp", "sharded_safetensors"}) {
    fs::remove_all(directory / "model");
    fs::copy(golden(kind), directory / "model", fs::copy_options::recursive);
    fs::copy(golden("model/config.json"), directory / "model/config.json");
    const ModelDirectory pickled(directory / "model"), model(golden("model"));
    EXPECT_EQ(pickled.tensors().size(), model.tensors().size());
    std::vector<ExpectedTensor> expected;
    for (const TensorEntry* entry : model.tensors()) {
      expected.push_back({entry->name, entry->shape});
      EXPECT_EQ(pickled.find(entry->name)->dtype, entry->dtype);
      std::string got(entry->bytes() / 2, '\0'), want(got.size(), '\0');
      pickled.read(entry->name, entry->bytes() / 2, std::as_writable_bytes(std::span(got)));
      model.read(entry->name, entry->bytes() / 2, std::as_writable_bytes(std::span(want)));
      EXPECT_EQ(got, want) << entry->name;
    }
    pickled.check_tensors(expected);
    EXPECT_EQ(pickled.fingerprint().size(), 16u);
    EXPECT_EQ(pickled.fingerprint(), ModelDirectory(directory / "model").fingerprint());
    EXPECT_NE(pickled.fingerprint(), model.fingerprint());
  }
}

}  // namespace
}  // namespace ft
