// Every kind of tokenizer.json against Hugging Face `tokenizers`: rows made by tests/golden/text_kinds.py, pairs
// by text_random.py, and those of a fuzz of either where FTENGINE_TEXT_FUZZ names its folder.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json_edit.h"
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

/// A pair of texts, as the file states it, and its tokens' places. A row without ids is one that `tokenizers` refuses.
void compare_pair(const Tokenizer& tokenizer, const Value& row) {
  const std::string &text = row.at("text").as_string(), &pair = row.at("pair").as_string();
  SCOPED_TRACE(write_json(row.at("pair")));
  const std::vector<uint32_t> places[] = {character_places(text), character_places(pair)};
  for (const bool special : {true, false}) {
    const std::string key = special ? "both" : "both_plain";
    if (row.at(key).is_null()) {
      EXPECT_THROW(tokenizer.encode_pair(text, pair, special), Error);
      continue;
    }
    EXPECT_EQ(tokenizer.encode_pair_as_stated(text, pair, special), ids_of(row.at(key)));
    // Either text's characters may be meant: places are compared in the one where both ends are found.
    const std::vector<int32_t> want = ids_of(row.at(key + "_offsets"));
    const std::vector<Tokenizer::Token> tokens = tokenizer.encode_pair(text, pair, special);
    ASSERT_EQ(tokens.size() * 2, want.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      const auto is_at = [&](const std::vector<uint32_t>& at) {
        const auto begin = static_cast<size_t>(want[2 * i]), end = static_cast<size_t>(want[2 * i + 1]);
        return begin < at.size() && end < at.size() && at[begin] == tokens[i].begin && at[end] == tokens[i].end;
      };
      EXPECT_TRUE(is_at(places[0]) || is_at(places[1])) << "token " << i << " at " << tokens[i].begin;
    }
  }
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
    const std::vector<int32_t> ids = row.find("ids") ? ids_of(row.at("ids")) : std::vector<int32_t>();
    if (!row.find("ids"))
      EXPECT_THROW(tokenizer->encode_as_stated(text, true), Error);
    else
      EXPECT_EQ(tokenizer->encode_as_stated(text, true), ids);
    if (row.find("pair")) compare_pair(*tokenizer, row);
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

TEST(Pairs, EqualHuggingFace) {
  const fs::path golden(FT_GOLDEN_DIR);
  const fs::path folder = fs::temp_directory_path() / ("ft_pairs_" + std::to_string(getpid()));
  fs::create_directories(folder);
  size_t rows = 0, refused = 0;
  const Value cases = read_json(golden / "text_pairs.json");
  for (const Value& one : cases.as_list()) {
    JsonEdit file(read_text(golden / "text_kinds/roberta/tokenizer.json"), "roberta");
    for (const char* part : {"post_processor", "truncation", "padding"}) file.set(part, one.at(part));
    SCOPED_TRACE(write_json(one.at("post_processor")) + write_json(one.at("truncation")));
    write_text(folder / "tokenizer.json", file.text());
    const auto tokenizer = Tokenizer::load(folder);
    for (const Value& row : one.at("rows").as_list()) {
      compare_pair(*tokenizer, row);
      ++rows;
      refused += row.at("both").is_null();
    }
  }
  fs::remove_all(folder);
  EXPECT_GT(rows, 100u);
  EXPECT_GT(refused, 10u) << "texts that are too short to be cut";
}

TEST(TextFuzz, EqualsHuggingFace) {
  const char* folder = std::getenv("FTENGINE_TEXT_FUZZ");
  if (!folder) GTEST_SKIP() << "FTENGINE_TEXT_FUZZ is not set";
  size_t rows = 0;
  for (const fs::path& kind : folders_in(folder)) rows += compare(kind);
  std::cout << rows << " texts compared\n";
}

}  // namespace
}  // namespace ft
