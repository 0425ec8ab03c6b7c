#include "engine/merge/merge.h"

#include <cmath>
#include <cstring>
#include <random>

#include "engine/quant/nf4.h"
#include "engine/tensor/half.h"
#include "tests/engine/merge/merge_run.h"

namespace ft {
namespace test {

std::vector<float> read_fp32(const ModelDirectory& model, const std::string& name) {
  const TensorEntry* entry = model.find(name);
  if (!entry) throw Error(ErrorKind::internal, name + " is not there");
  std::vector<std::byte> raw(entry->bytes());
  model.read(name, 0, raw);
  std::vector<float> values(static_cast<size_t>(entry->numel()));
  to_fp32(entry->dtype, raw.data(), entry->numel(), values.data());
  return values;
}

}  // namespace test

namespace {

namespace fs = std::filesystem;
using test::golden;
using test::read_fp32;
using test::TemporaryDirectory;

// A step of the dtype at x: of the fraction's last bit.
float ulp(float x, DType dtype) {
  const int bits = dtype == DType::bf16 ? 7 : dtype == DType::f16 ? 10 : 23;
  return std::ldexp(1.f, std::ilogb(std::max(std::abs(x), 1e-30f)) - bits);
}

// The largest term of scale·(B·A) that a weight may get: sqrt(4) ranks, alpha 6.
float largest_product(const std::string& weight) {
  const std::string module = weight.substr(0, weight.size() - std::string(".weight").size());
  float product = 6.f / 2;
  for (const test::Trained& trained : test::golden_adapter()) {
    if (!trained.name.starts_with(module + ".lora_")) continue;
    float largest = 0;
    for (const float x : trained.values) largest = std::max(largest, std::abs(x));
    product *= largest;
  }
  return product;
}

void expect_equal_to_peft(const std::string& dtype_name, DType dtype) {
  const TemporaryDirectory run;
  test::write_run(run.path(), golden("base_" + dtype_name));
  test::write_checkpoint(run.path(), 3, test::golden_adapter(), 3);
  const MergeReport report = merge({.input = run.path(), .output = run / "out"});
  EXPECT_EQ(report.folded, 7);
  EXPECT_EQ(report.step, 3);
  const ModelDirectory merged(run / "out"), base(golden("base_" + dtype_name));
  EXPECT_EQ(merged.names().size(), base.names().size());
  const SafetensorsFile reference(golden("merged_" + dtype_name + ".safetensors"));
  EXPECT_EQ(reference.entries().size(), 7u);
  int64_t exact = 0, all = 0;
  for (const TensorEntry* entry : base.tensors()) {
    ASSERT_EQ(merged.find(entry->name)->dtype, dtype);
    const std::vector<float> got = read_fp32(merged, entry->name);
    const TensorEntry* want = reference.find(entry->name);
    if (!want) {
      EXPECT_EQ(got, read_fp32(base, entry->name)) << entry->name << " was not trained";
      continue;
    }
    std::vector<std::byte> raw(want->bytes());
    reference.read(*want, 0, raw);
    std::vector<float> wanted(got.size());
    to_fp32(want->dtype, raw.data(), want->numel(), wanted.data());
    const std::vector<float> before = read_fp32(base, entry->name);
    const float largest_term = largest_product(entry->name);
    for (size_t i = 0; i < got.size(); ++i) {
      // peft rounds the product to the base's dtype before it adds; the sum is rounded here alone. In fp32 its GEMM
      // adds the four terms of the product in another order, with fused multiply-add.
      const float largest = std::max({std::abs(got[i]), std::abs(before[i]), std::abs(wanted[i] - before[i])});
      const float order = 4 * 0x1p-24f * largest_term;
      ASSERT_NEAR(got[i], wanted[i], ulp(largest, dtype) + order) << entry->name << "[" << i << "]";
      exact += got[i] == wanted[i];
      ++all;
    }
  }
  EXPECT_GT(exact, all / 2);
}

TEST(Merge, EqualsPeftWithinOneRoundingInBf16) { expect_equal_to_peft("bf16", DType::bf16); }
TEST(Merge, EqualsPeftWithinOneRoundingInFp32) { expect_equal_to_peft("fp32", DType::f32); }

TEST(Merge, GivesTheSameBytesWhateverTheLayoutAndTheThreads) {
  const TemporaryDirectory run;
  test::write_run(run.path(), golden("base_bf16"));
  test::write_checkpoint(run.path(), 1, test::golden_adapter(), 1);
  test::write_checkpoint(run.path(), 2, test::golden_adapter(), 5);
  merge({.input = run / "checkpoint-1", .output = run / "one", .threads = 1});
  merge({.input = run / "checkpoint-2", .output = run / "two", .threads = 3});
  EXPECT_EQ(test::slurp(run / "one/model.safetensors"), test::slurp(run / "two/model.safetensors"));
}

TEST(Merge, WritesAHuggingFaceDirectory) {
  const TemporaryDirectory run;
  test::write_run(run.path(), golden("base_bf16"));
  Value config = read_json(golden("base_bf16") / "config.json");
  config.set("architectures", Value::list({"FSDPLlamaForCausalLM"}));
  config.set("unknown_key", Value::list({1, 2.0}));
  write_text(run / "config.json", write_json(config));
  test::write_checkpoint(run.path(), 7, test::golden_adapter(), 2);
  uint64_t last = 0;
  const MergeReport report =
      merge({.input = run.path(), .dtype = DType::f32, .shard_size = 10'000}, [&](const MergeProgress& progress) {
        EXPECT_GT(progress.bytes_done, last);
        last = progress.bytes_done;
        EXPECT_EQ(progress.bytes_total, 10'336u * 4);
      });
  EXPECT_EQ(report.output, run / "merged-7");
  EXPECT_EQ(report.parameters, 10'336);
  EXPECT_EQ(last, report.bytes);
  EXPECT_GT(report.peak_bytes, 0u);
  const ModelDirectory merged(report.output);
  for (const std::string& file : report.files) EXPECT_TRUE(fs::exists(report.output / file)) << file;
  EXPECT_TRUE(fs::exists(report.output / "model-00001-of-00007.safetensors"));
  for (int i = 1; i <= 7; ++i) {
    const SafetensorsFile shard(report.output / ("model-0000" + std::to_string(i) + "-of-00007.safetensors"));
    uint64_t bytes = 0;
    for (const TensorEntry& entry : shard.entries()) bytes += entry.bytes();
    EXPECT_LE(bytes, 10'000u);
    EXPECT_EQ(shard.metadata(), (SafetensorsMetadata{{"format", "pt"}}));
  }
  const Value index = read_json(report.output / "model.safetensors.index.json");
  EXPECT_EQ(index.at("metadata"), Value::map({{"total_parameters", 10'336}, {"total_size", 10'336 * 4}}));
  EXPECT_EQ(index.at("weight_map").as_map().size(), merged.names().size());
  Value want = config;
  want.set("architectures", Value::list({"LlamaForCausalLM"}));
  want.set("dtype", "float32");
  EXPECT_EQ(merged.config(), want);
  EXPECT_EQ(test::slurp(report.output / "tokenizer.json"), test::slurp(run / "tokenizer.json"));
  EXPECT_TRUE(fs::exists(report.output / "generation_config.json"));
}

TEST(Merge, KeepsTheOldSpellingOfTheDtype) {
  const TemporaryDirectory run;
  test::write_run(run.path(), golden("base_bf16"));
  write_text(run / "config.json", R"({"torch_dtype": "bfloat16"})");
  test::write_checkpoint(run.path(), 7, test::golden_adapter(), 2);
  merge({.input = run.path(), .output = run / "out", .dtype = DType::f16});
  EXPECT_EQ(read_json(run / "out/config.json"), Value::map({{"torch_dtype", "float16"}}));
}

TEST(Merge, TakesWholeWeightsFromACheckpoint) {
  const TemporaryDirectory run;
  const ModelDirectory base(golden("base_bf16"));
  std::vector<test::Trained> trained;
  for (const TensorEntry* entry : base.tensors()) {
    test::Trained tensor{entry->name, entry->shape, read_fp32(base, entry->name)};
    for (float& x : tensor.values) x += 1.f;
    trained.push_back(tensor);
  }
  // Built from a config alone: no base; the tied head is left out.
  test::write_run(run.path(), "");
  write_text(run / "config.json", R"({"tie_word_embeddings": true, "dtype": "float32"})");
  test::write_checkpoint(run.path(), 1, trained, 3);
  merge({.input = run.path(), .output = run / "alone"});
  const ModelDirectory alone(run / "alone");
  EXPECT_EQ(alone.names().size(), trained.size() - 1);
  EXPECT_EQ(alone.find("lm_head.weight"), nullptr);
  ASSERT_EQ(trained[1].name, "model.embed_tokens.weight");
  EXPECT_EQ(read_fp32(alone, trained[1].name), trained[1].values);
  // Over a base: what was not trained is the base's, in the base's dtype.
  test::write_run(run.path(), golden("base_bf16"));
  test::write_checkpoint(run.path(), 2, {trained[0]}, 2);
  merge({.input = run.path(), .output = run / "over"});
  const ModelDirectory over(run / "over");
  EXPECT_EQ(over.names().size(), trained.size());
  EXPECT_EQ(over.find(trained[0].name)->dtype, DType::bf16);
  for (size_t i = 0; i < trained[0].values.size(); ++i)
    ASSERT_EQ(read_fp32(over, trained[0].name)[i], bf16_to_fp32(fp32_to_bf16(trained[0].values[i])));
  EXPECT_EQ(read_fp32(over, trained[1].name), read_fp32(base, trained[1].name));
  EXPECT_ERROR(merge({.input = run.path(), .output = run / "x", .adapter_only = true}), config, "there is no adapter");
}

// A weight larger than a thread's chunk and not a whole number of groups, quantized whole and in the stream.
void expect_dequantized(bool double_quant, DType dtype) {
  const TemporaryDirectory run;
  constexpr int64_t kOut = 300, kIn = 301, kNumel = kOut * kIn;
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.f, 0.02f);
  std::vector<float> values(kNumel);
  for (float& x : values) x = normal(random);
  std::vector<std::byte> raw(static_cast<size_t>(kNumel) * byte_size(dtype));
  from_fp32(values.data(), kNumel, dtype, raw.data());
  fs::create_directories(run / "base");
  SafetensorsWriter writer(run / "base/model.safetensors",
                           {{.name = "m.up.weight", .dtype = dtype, .shape = {kOut, kIn}},
                            {.name = "n.up.weight", .dtype = dtype, .shape = {kOut, kIn}}});
  writer.append(raw);
  writer.append(raw);
  writer.finish();
  write_text(run / "base/config.json", "{}");
  test::write_run(run.path(), run / "base",
                  Value::map({{"quantized", Value::list({"m.up.weight"})}, {"double_quant", double_quant}}));
  std::vector<float> a(4 * kIn, 0.5f), b(kOut * 4, 0.f);
  b[0] = 1.f;  // row 0 alone is changed
  test::write_checkpoint(run.path(), 1, {{"m.up.lora_A.weight", {4, kIn}, a}, {"m.up.lora_B.weight", {kOut, 4}, b}}, 2);
  merge({.input = run.path(), .output = run / "out", .dtype = DType::f32, .base = MergeBase::dequantized});
  const ModelDirectory out(run / "out");
  const nf4::Quantized quantized = nf4::quantize(dtype, raw.data(), kNumel, double_quant);
  std::vector<float> want(kNumel);
  nf4::dequantize({quantized.records.data(), quantized.offset, double_quant}, 0, kNumel, DType::f32, want.data());
  for (int64_t i = 0; i < kIn; ++i) want[static_cast<size_t>(i)] += 3.f * 0.5f;  // alpha / sqrt(r) = 6 / 2
  EXPECT_EQ(read_fp32(out, "m.up.weight"), want);
  std::vector<float> untouched(kNumel);
  to_fp32(dtype, raw.data(), kNumel, untouched.data());
  EXPECT_EQ(read_fp32(out, "n.up.weight"), untouched);
}

TEST(Merge, DequantizedBaseIsTheWholeTensorsNf4) {
  for (const bool double_quant : {true, false})
    for (const DType dtype : {DType::bf16, DType::f32}) expect_dequantized(double_quant, dtype);
}

TEST(Merge, AdapterHasPeftsNamesAndKeys) {
  const TemporaryDirectory run;
  test::write_run(run.path(), run / "gone");
  test::write_checkpoint(run.path(), 9, test::golden_adapter(), 4);
  write_text(run / "config.json", "{}");
  const MergeReport report = merge({.input = run.path(), .adapter_only = true});
  EXPECT_EQ(report.output, run / "adapter-9");
  const SafetensorsFile got(report.output / "adapter_model.safetensors"),
      want(golden("adapter/adapter_model.safetensors"));
  ASSERT_EQ(got.entries().size(), want.entries().size());
  for (const TensorEntry& entry : want.entries()) {
    std::vector<std::byte> a(entry.bytes()), b(entry.bytes());
    ASSERT_NE(got.find(entry.name), nullptr) << entry.name;
    got.read(*got.find(entry.name), 0, a);
    want.read(entry, 0, b);
    EXPECT_EQ(a, b) << entry.name;
  }
  const Value config = read_json(report.output / "adapter_config.json"),
              theirs = read_json(golden("adapter/adapter_config.json"));
  EXPECT_EQ(config.as_map().size(), 13u) << "the keys that every version of peft knows";
  for (const auto& [key, value] : config.as_map()) EXPECT_EQ(value, theirs.at(key)) << key;
}

TEST(Merge, NothingIsOverwrittenAndNothingHalfStays) {
  const TemporaryDirectory run;
  test::write_run(run.path(), golden("base_bf16"));
  test::write_checkpoint(run.path(), 1, test::golden_adapter(), 1);
  test::spill(run / "full/mine.txt", "mine");
  EXPECT_ERROR(merge({.input = run.path(), .output = run / "full"}), config, "full: is not empty");
  EXPECT_ERROR(merge({.input = run.path(), .output = run / "full/mine.txt"}), config, "is no directory");
  fs::create_directories(run / "empty");
  merge({.input = run.path(), .output = run / "empty/"});
  EXPECT_TRUE(fs::exists(run / "empty/model.safetensors"));
  const auto stop = [](const MergeProgress&) { throw Error(ErrorKind::interrupt, "stopped"); };
  EXPECT_ERROR(merge({.input = run.path(), .output = run / "stopped"}, stop), interrupt, "stopped");
  for (const auto& entry : fs::directory_iterator(run.path()))
    EXPECT_EQ(entry.path().filename().string().find("stopped"), std::string::npos) << entry.path();
}

TEST(Merge, RefusesWhatDoesNotFitTogether) {
  const TemporaryDirectory run;
  EXPECT_ERROR(merge({.input = run / "absent"}), io, "does not exist");
  EXPECT_ERROR(merge({.input = run.path()}), config, "is neither a run directory");
  test::write_run(run.path(), golden("base_bf16"));
  EXPECT_ERROR(merge({.input = run.path()}), config, "holds no whole checkpoint");
  auto adapter = test::golden_adapter();
  test::write_checkpoint(run.path(), 1, {adapter[0]}, 1);
  EXPECT_ERROR(merge({.input = run.path()}), format, "the checkpoint lacks lora_");
  auto misnamed = adapter;
  misnamed[0].name = "model.layers.9" + misnamed[0].name.substr(14),
  misnamed[1].name = "model.layers.9" + misnamed[1].name.substr(14);
  test::write_checkpoint(run.path(), 2, misnamed, 1);
  EXPECT_ERROR(merge({.input = run.path()}), shape, "the base has no weight for it");
  auto misshapen = adapter;
  misshapen[0].shape = {misshapen[0].shape[1], misshapen[0].shape[0]};
  test::write_checkpoint(run.path(), 3, misshapen, 1);
  EXPECT_ERROR(merge({.input = run.path()}), shape, "with r = 4");
  test::write_checkpoint(run.path(), 4, adapter, 1);
  EXPECT_ERROR(merge({.input = run.path(), .base = MergeBase::dequantized}), config, "was not quantized");
  EXPECT_ERROR(merge({.input = run.path(), .dtype = DType::i8}), config, "want fp32, fp16 or bf16");
  EXPECT_ERROR(merge({.input = run.path(), .shard_size = 0}), config, "--shard-size");
  EXPECT_ERROR(merge({.input = run / "checkpoint-4", .model = run / "moved"}), io, "--model DIR");
  test::write_run(run.path(), "");
  EXPECT_ERROR(merge({.input = run.path()}), config, "base_model: names no base model");
  test::write_run(run.path(), golden("base_bf16"), Value::map({{"model_fingerprint", "0000000000000000"}}));
  EXPECT_ERROR(merge({.input = run.path()}), config, "is not the model that the run was trained on");
}

TEST(Merge, RefusesAShardThatChangedOnTheDisk) {
  const TemporaryDirectory run;
  test::write_run(run.path(), golden("base_bf16"));
  test::write_checkpoint(run.path(), 1, test::golden_adapter(), 2);
  const fs::path shard = run / "checkpoint-1/shard-00001-of-00002.safetensors";
  std::string bytes = test::slurp(shard);
  bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 1);
  test::spill(shard, bytes);
  EXPECT_ERROR(merge({.input = run.path()}), format, "shard-00001-of-00002.safetensors: has checksum");
}

TEST(Merge, RefusesAdaptersItCannotFold) {
  const TemporaryDirectory run;
  test::write_run(run.path(), golden("base_bf16"));
  test::write_checkpoint(run.path(), 1, test::golden_adapter(), 1);
  Value config = read_json(run / "adapter_config.json");
  config.set("use_qalora", true);
  write_text(run / "adapter_config.json", write_json(config));
  EXPECT_ERROR(merge({.input = run.path()}), config, "use_qalora: got true, want none");
}

TEST(ParseBytes, ReadsSizes) {
  EXPECT_EQ(parse_bytes("5GB"), 5'000'000'000u);
  EXPECT_EQ(parse_bytes("1.5 GiB"), 1'610'612'736u);
  EXPECT_EQ(parse_bytes("500mb"), 500'000'000u);
  EXPECT_EQ(parse_bytes("123"), 123u);
  for (const char* text : {"", "GB", "5XB", "-5GB", "0", "5GB3", "nan", "1e300GB"})
    EXPECT_ERROR(parse_bytes(text), config, "want a size");
}

}  // namespace
}  // namespace ft
