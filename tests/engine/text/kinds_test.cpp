// Every kind of tokenizer.json against Hugging Face `tokenizers`: rows made by tests/golden/text_kinds.py, and those of
// a fuzz where FTENGINE_TEXT_FUZZ names its folder.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "engine/text/tokenizer.h"
#include "tests/engine/text/common.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory()) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

/// The offsets of `tokens` in characters, trimmed as the file says.
std::vector<int32_t> offsets_of(const Tokenizer& tokenizer, const std::string& text,
                                std::vector<Tokenizer::Token> tokens) {
  tokenizer.trim_offsets(text, tokens);
  const std::vector<uint32_t> places = character_places(text);
  const auto place = [&](uint32_t byte) {
    return static_cast<int32_t>(std::lower_bound(places.begin(), places.end(), byte) - places.begin());
  };
  std::vector<int32_t> out;
  for (const Tokenizer::Token& token : tokens) {
    out.push_back(place(token.begin));
    out.push_back(place(token.end));
  }
  return out;
}

/// @return rows compared
size_t compare(const fs::path& folder) {
  SCOPED_TRACE(folder.filename().string());
  const auto tokenizer = Tokenizer::load(folder);
  const std::vector<Value> rows = read_rows(folder / "gold.jsonl");
  for (const Value& row : rows) {
    if (::testing::Test::HasFailure()) return 0;  // the first row that differs is enough
    SCOPED_TRACE(write_json(row.at("text")));
    const std::string& text = row.at("text").as_string();
    const std::vector<int32_t> ids = ids_of(row.at("ids"));
    EXPECT_EQ(tokenizer->encode_as_stated(text, true), ids);
    EXPECT_EQ(tokenizer->encode(text, false), ids_of(row.at("plain")));
    EXPECT_EQ(offsets_of(*tokenizer, text, tokenizer->encode_with_offsets(text, false)), ids_of(row.at("offsets")));
    if (!row.find("decode")) continue;
    EXPECT_EQ(tokenizer->decode(ids, false), row.at("decode").as_string());
    EXPECT_EQ(tokenizer->decode(ids, true), row.at("skip").as_string());
  }
  return rows.size();
}

class Kinds : public ::testing::TestWithParam<const char*> {};
TEST_P(Kinds, EqualHuggingFace) { EXPECT_GT(compare(fs::path(FT_GOLDEN_DIR) / "text_kinds" / GetParam()), 30u); }
INSTANTIATE_TEST_SUITE_P(Text, Kinds,
                         ::testing::Values("llama2", "gemma", "unknown", "unknown_each", "suffix", "prefix",
                                           "wordpiece", "wordlevel", "unigram", "unigram_bytes", "bytes_spelled",
                                           "scripts", "roberta"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TextFuzz, EqualsHuggingFace) {
  const char* folder = std::getenv("FTENGINE_TEXT_FUZZ");
  if (!folder) GTEST_SKIP() << "FTENGINE_TEXT_FUZZ is not set";
  size_t rows = 0;
  for (const fs::path& kind : folders_in(folder)) rows += compare(kind);
  std::cout << rows << " texts compared\n";
}

}  // namespace
}  // namespace ft
