// Real tokenizers against what Hugging Face `tokenizers` made of the same texts. The folder is named by
// FTENGINE_SAMPLES and is not part of the repository.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/text/common.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

std::string gunzip(const fs::path& file) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(("gzip -dc '" + file.string() + "'").c_str(), "r"), pclose);
  std::string out;
  char buffer[1 << 16];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe.get())) > 0;) out.append(buffer, n);
  return out;
}

class Samples : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("FTENGINE_SAMPLES");
    if (!folder) GTEST_SKIP() << "FTENGINE_SAMPLES is not set";
    samples_ = fs::path(folder) / "tokenizers";
    scratch_ = fs::temp_directory_path() / ("ft_samples_" + std::to_string(getpid()));
    fs::create_directories(scratch_);
    std::ofstream(scratch_ / "tokenizer.json", std::ios::binary)
        << gunzip(samples_ / "json" / (std::string(GetParam()) + ".json.gz"));
  }
  void TearDown() override {
    if (!scratch_.empty()) fs::remove_all(scratch_);
  }
  fs::path samples_, scratch_;
};

using ReadSamples = Samples;
TEST_P(ReadSamples, IdsAndTextEqualHuggingFace) {
  const auto start = std::chrono::steady_clock::now();
  const auto tokenizer = Tokenizer::load(scratch_);
  const std::chrono::duration<double, std::milli> load = std::chrono::steady_clock::now() - start;
  RecordProperty("load_ms", std::to_string(load.count()));
  const std::string gold = gunzip(samples_ / "gold" / (std::string(GetParam()) + ".jsonl.gz"));
  int rows = 0;
  for (size_t at = 0; at < gold.size(); ++rows) {
    const size_t end = gold.find('\n', at);
    const Value row = parse_json(std::string_view(gold).substr(at, end - at), "gold");
    at = end + 1;
    const std::string& text = row.at("text").as_string();
    const std::vector<int32_t> ids = ids_of(row.at("ids"));
    ASSERT_EQ(tokenizer->encode(text, true), ids) << describe(row.at("text"));
    ASSERT_EQ(tokenizer->encode(text, false), ids_of(row.at("ids_no_special"))) << describe(row.at("text"));
    ASSERT_EQ(tokenizer->decode(ids, false), row.at("decode").as_string());
    ASSERT_EQ(tokenizer->decode(ids, true), row.at("decode_skip_special").as_string());
  }
  EXPECT_GT(rows, 200);
}
INSTANTIATE_TEST_SUITE_P(Kinds, ReadSamples,
                         ::testing::Values("gpt2", "llama-3.2", "qwen2", "torchtitan-test", "roberta-base",
                                           "gpt-neox-20b", "bert-base-uncased", "t5-small", "mistral-7b-v0.1",
                                           "phi-3-mini", "torchtune-gemma-cropped"));

using RefuseSamples = Samples;
TEST_P(RefuseSamples, NamesThePart) {
  try {
    Tokenizer::load(scratch_);
    FAIL() << "was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::format);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("a merge that is not two tokens"));
  }
}
INSTANTIATE_TEST_SUITE_P(Broken, RefuseSamples, ::testing::Values("llama2-ort-broken"));

}  // namespace
}  // namespace ft
