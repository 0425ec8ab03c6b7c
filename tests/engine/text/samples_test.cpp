// Real tokenizers against what Hugging Face `tokenizers` made of the same texts. The folder is named by
// FTENGINE_SAMPLES and is not part of the repository.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/text/common.h"
#include "tests/gunzip.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

class Samples : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("FTENGINE_SAMPLES");
    if (!folder) GTEST_SKIP() << "FTENGINE_SAMPLES is not set";
    samples_ = fs::path(folder) / "tokenizers";
    test::spill(scratch_ / "tokenizer.json", test::gunzip(samples_ / "json" / (std::string(GetParam()) + ".json.gz")));
  }
  fs::path samples_;
  const test::TemporaryDirectory scratch_;
};

using ReadSamples = Samples;
TEST_P(ReadSamples, IdsAndTextEqualHuggingFace) {
  const auto tokenizer = Tokenizer::load(scratch_);
  const std::string gold = test::gunzip(samples_ / "gold" / (std::string(GetParam()) + ".jsonl.gz"));
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
  EXPECT_ERROR(Tokenizer::load(scratch_), format, "a merge that is not two tokens");
}
INSTANTIATE_TEST_SUITE_P(Broken, RefuseSamples, ::testing::Values("llama2-ort-broken"));

}  // namespace
}  // namespace ft
