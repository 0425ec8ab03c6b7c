// What `ftengine tokenize` prints.
#include "engine/text/tokenize_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error/error.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/text/common.h"

namespace ft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::shared_ptr<const Tokenizer> golden(const char* kind) {
  return Tokenizer::load(std::filesystem::path(FT_GOLDEN_DIR) / "text_kinds" / kind);
}

TEST(TokenizeRows, PrintsIdsInOrderOnAnyNumberOfThreads) {
  const auto tokenizer = golden("llama2");
  std::vector<std::string> lines, want;
  for (const Value& row : read_rows(std::filesystem::path(FT_GOLDEN_DIR) / "text_kinds" / "llama2" / "gold.jsonl")) {
    lines.push_back(write_json(Value::map({{"text", row.at("text")}})));
    want.push_back(write_json(row.at("ids")));
  }
  const std::vector<std::string> one = tokenize_rows(*tokenizer, lines, {});
  ASSERT_EQ(one.size(), lines.size());
  for (size_t i = 0; i < one.size(); ++i) EXPECT_EQ(write_json(parse_json(one[i], "row").at("ids")), want[i]);
  EXPECT_EQ(tokenize_rows(*tokenizer, lines, {.threads = 4}), one);
}

TEST(TokenizeRows, LeavesSpecialTokensOutAndDecodes) {
  const auto tokenizer = golden("llama2");
  EXPECT_THAT(tokenize_rows(*tokenizer, {R"({"text": ""})", R"("")"}, {}),
              ElementsAre(R"({"ids": [1]})", R"({"ids": [1]})"));
  EXPECT_THAT(tokenize_rows(*tokenizer, {R"({"text": ""})"}, {.special_tokens = false}), ElementsAre(R"({"ids": []})"));
  const std::vector<std::string> row =
      tokenize_rows(*tokenizer, {R"({"text": "ba\n"})"}, {.special_tokens = false, .decode = true});
  EXPECT_EQ(parse_json(row[0], "row").at("text").as_string(), "ba\n");
  EXPECT_EQ(tokenize_rows(*tokenizer, {row[0]}, {.decode = true}), row);  // ids are taken as they are
}

TEST(TokenizeRows, PutsAPairWhereTheTemplateHasIt) {
  const auto tokenizer = golden("llama2");  // <s> $A <s> $B
  for (const char* key : {"pair", "text_pair"})
    EXPECT_THAT(tokenize_rows(*tokenizer, {write_json(Value::map({{"text", ""}, {key, "<|end|>"}}))}, {}),
                ElementsAre("{\"ids\": [1, 1, " + std::to_string(*tokenizer->token_id("<|end|>")) + "]}"));
}

TEST(TokenizeRows, CutsAndPadsAsTheFileStates) {
  const auto tokenizer = golden("wordlevel");  // at most 8, cut on the left; at least 6, in fours, filled on the left
  const auto count = [&](const std::string& text) {
    const Value row = parse_json(tokenize_rows(*tokenizer, {write_json(Value(text))}, {})[0], "row");
    return ids_of(row.at("ids"));
  };
  const std::vector<int32_t> one = count("7");
  EXPECT_EQ(one.size(), 8u);
  EXPECT_EQ(one[6], *tokenizer->token_id("<pad>"));
  EXPECT_EQ(count("7 7 7 7 7 7 7 7 7 7 7").size(), 8u);
  EXPECT_EQ(tokenizer->encode("7 7 7 7 7 7 7 7 7 7 7", true).size(), 11u);  // training cuts rows itself
}

TEST(TokenizeRows, NamesTheLineOfABadRow) {
  const auto tokenizer = golden("llama2");
  const std::pair<const char*, const char*> bad[] = {{"{", "stdin:8"},
                                                     {R"({"txt": "a"})", "want {\"text\""},
                                                     {"[]", "stdin:8"},
                                                     {R"({"text": 5})", "stdin:8"},
                                                     {R"({"text": "a", "pair": 5})", "pair: got 5, want a second text"},
                                                     {R"({"ids": [1], "pair": "a"})", "want {\"text\""}};
  for (const auto& [line, message] : bad) {
    try {
      tokenize_rows(*tokenizer, {R"("fine")", line}, {.threads = 2, .first_line = 7});
      FAIL() << line;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(message)) << line;
    }
  }
}

}  // namespace
}  // namespace ft
