#include "engine/formats/model_directory.h"

#include <cstring>
#include <vector>

#include "engine/formats/json.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

using test::spill;
using test::TemporaryDirectory;

void write_file(const std::filesystem::path& path, const std::vector<std::string>& names, char fill = 1,
                DType dtype = DType::u8) {
  std::vector<TensorEntry> entries;
  for (const std::string& name : names) entries.push_back({.name = name, .dtype = dtype, .shape = {2, 3}});
  SafetensorsWriter writer(path, entries);
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string bytes(6 * byte_size(dtype), static_cast<char>(fill + i));
    writer.append(std::as_bytes(std::span(bytes)));
  }
  writer.finish();
}

// Two files and an index.
void write_model(const TemporaryDirectory& directory, const std::string& weight_map) {
  spill(directory / "config.json", R"({"model_type": "llama"})");
  write_file(directory / "model-00001-of-00002.safetensors", {"a", "b"}, 1);
  write_file(directory / "model-00002-of-00002.safetensors", {"c"}, 9);
  spill(directory / "model.safetensors.index.json",
        "{\"metadata\": {\"total_size\": 18},\n\"weight_map\": {" + weight_map + "}}");
}

const char* kWhole =
    "\"a\": \"model-00001-of-00002.safetensors\",\n\"b\": \"model-00001-of-00002.safetensors\",\n"
    "\"c\": \"model-00002-of-00002.safetensors\"";

TEST(ModelDirectory, ReadsRangesAcrossFiles) {
  const TemporaryDirectory directory;
  write_model(directory, kWhole);
  const ModelDirectory model(directory.path());
  EXPECT_EQ(model.names(), (std::vector<std::string>{"a", "b", "c"}));
  std::vector<std::byte> bytes(2);
  model.read("c", 4, bytes);
  EXPECT_EQ(bytes[1], std::byte{9});
  model.read("b", 0, bytes);
  EXPECT_EQ(bytes[0], std::byte{2});
  EXPECT_EQ(model.find("d"), nullptr);
  EXPECT_ERROR(model.read("d", 0, bytes), format, "d: is missing");
}

TEST(ModelDirectory, ReadsASingleFileAndAConfigAlone) {
  const TemporaryDirectory directory;
  EXPECT_ERROR(ModelDirectory(directory.path()), io, "config.json: cannot open");
  spill(directory / "config.json", "{}");
  EXPECT_ERROR(ModelDirectory(directory.path()), io,
               "holds neither model.safetensors nor model.safetensors.index.json");
  write_file(directory / "model.safetensors", {"x"});
  EXPECT_EQ(ModelDirectory(directory.path()).names(), std::vector<std::string>{"x"});
  EXPECT_ERROR(ModelDirectory(directory / "absent"), io, "does not exist");
  EXPECT_ERROR(ModelDirectory(directory / "config.json"), io, "is no directory");
}

TEST(ModelDirectory, RefusesAnIndexThatPointsOutside) {
  const TemporaryDirectory directory;
  write_file(directory / "outside.safetensors", {"a"});
  for (const char* file : {"../outside.safetensors", "/etc/passwd", "sub/../../outside.safetensors", "..", ""}) {
    std::filesystem::create_directories(directory / "model");
    spill(directory / "model/config.json", "{}");
    spill(directory / "model/model.safetensors.index.json",
          std::string("{\n\"weight_map\": {\n\"a\": \"") + file + "\"}}");
    EXPECT_ERROR(ModelDirectory(directory / "model"), format,
                 "index.json:3: got file '" + std::string(file) + "', which lies outside");
  }
}

TEST(ModelDirectory, RefusesAnIndexThatPointsAtNothing) {
  const TemporaryDirectory directory;
  write_model(directory, "\"a\": \"model-00003-of-00003.safetensors\"");
  EXPECT_ERROR(ModelDirectory(directory.path()), io,
               "points at 'model-00003-of-00003.safetensors', which does not exist");
  write_model(directory, std::string(kWhole) + ",\n\"d\": \"model-00002-of-00002.safetensors\"");
  EXPECT_ERROR(ModelDirectory(directory.path()), format,
               "index.json:5: d: points at 'model-00002-of-00002.safetensors', which does not hold this tensor");
  write_model(directory, "\"a\": 7");
  EXPECT_ERROR(ModelDirectory(directory.path()), format, "a: got 7, want a file name");
  spill(directory / "model.safetensors.index.json", "{}");
  EXPECT_ERROR(ModelDirectory(directory.path()), format, "has no weight_map");
}

TEST(ModelDirectory, RefusesATensorThatStandsTwice) {
  const TemporaryDirectory directory;
  write_model(directory, kWhole);
  write_file(directory / "model-00002-of-00002.safetensors", {"c", "a"});
  EXPECT_ERROR(ModelDirectory(directory.path()), format, "a: stands in two files");
}

TEST(ModelDirectory, ListsWhatIsMissingUnexpectedAndMisshapen) {
  const TemporaryDirectory directory;
  spill(directory / "config.json", "{}");
  write_file(directory / "model.safetensors", {"a", "b", "extra", "model.layers.0.self_attn.rotary_emb.inv_freq"}, 1,
             DType::bf16);
  const ModelDirectory model(directory.path());
  const std::vector<ExpectedTensor> fine = {
      {"a", {2, 3}}, {"b", {2, 3}}, {"extra", {2, 3}}, {"lm_head.weight", {9, 9}, true}};
  EXPECT_NO_THROW(model.check_tensors(fine));
  const std::vector<ExpectedTensor> wrong = {{"a", {2, 3}}, {"b", {3, 2}}, {"c", {1}}, {"lm_head.weight", {9, 9}}};
  const Error error = test::thrown([&] { model.check_tensors(wrong); });
  EXPECT_EQ(error.kind(), ErrorKind::shape);
  EXPECT_EQ(error.message(),
            "2 missing tensors: c, lm_head.weight; 1 unexpected tensor: extra; 1 wrongly shaped tensor: b (got [2, 3], "
            "want [3, 2])");
}

TEST(ModelDirectory, RefusesWeightsInADtypeThatIsNoWeights) {
  const TemporaryDirectory directory;
  spill(directory / "config.json", "{}");
  write_file(directory / "model.safetensors", {"a"}, 1, DType::i8);
  EXPECT_ERROR(ModelDirectory(directory.path()).check_tensors(std::vector<ExpectedTensor>{{"a", {2, 3}}}), shape,
               "1 wrongly typed tensor: a (got int8, want fp32, fp16 or bf16)");
}

TEST(ModelDirectory, FingerprintTellsModelsApart) {
  const TemporaryDirectory directory;
  write_model(directory, kWhole);
  const std::string first = ModelDirectory(directory.path()).fingerprint();
  EXPECT_EQ(first.size(), 16u);
  EXPECT_EQ(ModelDirectory(directory.path()).fingerprint(), first);
  write_file(directory / "model-00002-of-00002.safetensors", {"c"}, 10);
  EXPECT_NE(ModelDirectory(directory.path()).fingerprint(), first);
}

TEST(ModelDirectory, FindsCompanions) {
  const TemporaryDirectory directory;
  write_model(directory, kWhole);
  for (const char* name : {"tokenizer.json", "generation_config.json", "README.md", "chat_template.jinja"})
    spill(directory / name, "{}");
  EXPECT_EQ(ModelDirectory(directory.path()).companions().size(), 3u);
}

TEST(PlainArchitecture, StripsTheWrapper) {
  EXPECT_EQ(plain_architecture("FSDPQwen3ForCausalLM"), "Qwen3ForCausalLM");
  EXPECT_EQ(plain_architecture("LlamaForCausalLM"), "LlamaForCausalLM");
}

}  // namespace
}  // namespace ft
