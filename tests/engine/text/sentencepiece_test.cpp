// tokenizer.model against transformers' slow tokenizers and the library: rows made by
// tests/golden/sentencepiece_models.py, and those of a fuzz where FTENGINE_SENTENCEPIECE_FUZZ names its folder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/text/common.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

fs::path golden(const std::string& name) { return fs::path(FT_GOLDEN_DIR) / "sentencepiece" / name; }

/// Places in pairs. The library gives a character that becomes several pieces to the last of them, and a "▁" that no
/// text has none; here each piece has such a character whole, so that it may end at the next place.
void expect_offsets(const std::vector<Tokenizer::Token>& tokens, const std::vector<int32_t>& want, bool has_rules) {
  ASSERT_EQ(2 * tokens.size(), want.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    SCOPED_TRACE("token " + std::to_string(i));
    const int32_t begin = want[2 * i], end = want[2 * i + 1];
    EXPECT_EQ(static_cast<int32_t>(tokens[i].begin), begin);
    const auto next = std::find_if(want.begin(), want.end(), [&](int32_t place) { return place > end; });
    const int32_t further = next == want.end() ? end : *next;
    if (begin < end && !has_rules) {
      EXPECT_EQ(static_cast<int32_t>(tokens[i].end), end);
    } else {
      EXPECT_GE(static_cast<int32_t>(tokens[i].end), end);
      EXPECT_LE(static_cast<int32_t>(tokens[i].end), further);
    }
  }
}

/// @return rows compared
size_t compare(const fs::path& folder) {
  SCOPED_TRACE(folder.filename().string());
  const auto tokenizer = Tokenizer::load(folder);
  const std::vector<Value> rows = read_rows(folder / "gold.jsonl");
  const bool has_rules = !folder.filename().string().starts_with("llama");  // or symbols that may stand in the text
  for (const Value& row : rows) {
    if (::testing::Test::HasFailure()) return 0;  // the first row that differs is enough
    SCOPED_TRACE(write_json(row.at("text")));
    const std::string& text = row.at("text").as_string();
    const std::vector<int32_t> ids = ids_of(row.at("ids"));
    EXPECT_EQ(tokenizer->encode(text, true), ids);
    EXPECT_EQ(tokenizer->encode(text, false), ids_of(row.at("plain")));
    if (const Value* offsets = row.find("offsets"))
      expect_offsets(tokenizer->encode_with_offsets(text, false), ids_of(*offsets), has_rules);
    EXPECT_EQ(tokenizer->decode(ids, false), row.at("decode").as_string());
    EXPECT_EQ(tokenizer->decode(ids, true), row.at("skip").as_string());
  }
  return rows.size();
}

class SentencePiece : public ::testing::TestWithParam<const char*> {};
TEST_P(SentencePiece, EqualsTheSlowTokenizers) { EXPECT_GT(compare(golden(GetParam())), 40u); }
INSTANTIATE_TEST_SUITE_P(Text, SentencePiece,
                         ::testing::Values("llama", "llama_new", "llama_eos", "gemma", "unigram", "unigram_new",
                                           "unigram_bytes", "bpe_rules"),
                         [](const auto& info) { return std::string(info.param); });

TEST(SentencePieceFuzz, EqualsTheSlowTokenizers) {
  const char* folder = std::getenv("FTENGINE_SENTENCEPIECE_FUZZ");
  if (!folder) GTEST_SKIP() << "FTENGINE_SENTENCEPIECE_FUZZ is not set";
  size_t rows = 0;
  for (const auto& kind : fs::directory_iterator(folder)) rows += compare(kind.path());
  std::cout << rows << " texts compared\n";
}

/// A folder with a model, gone when the test ends.
class SentencePieceFile : public ::testing::Test {
 protected:
  SentencePieceFile() {
    model_ = read_text(golden("llama") / "tokenizer.model");
    write("tokenizer.model", model_);
  }
  void write(const std::string& name, const std::string& text) { write_text(folder_ / name, text); }
  std::string fault() {
    const Error error = test::thrown([&] { Tokenizer::load(folder_); });
    EXPECT_EQ(error.kind(), ErrorKind::format);
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.model"));
    return error.what();
  }
  /// A message's field of bytes.
  static std::string field(int number, const std::string& bytes) {
    return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(bytes.size()) + bytes;
  }
  static std::string piece(const std::string& text, int type) {
    return field(1, field(1, text) + "\x18" + static_cast<char>(type));
  }

  const test::TemporaryDirectory folder_;
  std::string model_;
};

TEST_F(SentencePieceFile, HasMarksAndFlagsWithoutAConfiguration) {
  const auto tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_EQ(tokenizer->pad_id(), std::nullopt);
  EXPECT_TRUE(tokenizer->is_special(0));
  EXPECT_EQ(tokenizer->encode("</s>", true), (std::vector<int32_t>{1, 2}));
  write("tokenizer_config.json",
        R"({"add_bos_token": false, "add_eos_token": true, "eos_token": {"content": "<unk>"}})");
  EXPECT_EQ(Tokenizer::load(folder_)->encode("</s>", true), (std::vector<int32_t>{2, 0}));
}

TEST_F(SentencePieceFile, TakesAddedTokensOfEveryAge) {
  const auto count = static_cast<int32_t>(Tokenizer::load(folder_)->vocab_size());
  write("added_tokens.json", "{\"<b>\": " + std::to_string(count + 1) + ", \"<a>\": " + std::to_string(count) + "}");
  write("special_tokens_map.json", R"({"pad_token": "<a>", "additional_special_tokens": ["<c>"]})");
  const auto tokenizer = Tokenizer::load(folder_);
  EXPECT_THAT(tokenizer->encode("<a><b><c>", false), ElementsAre(count, count + 1, count + 2));
  EXPECT_EQ(tokenizer->pad_id(), count);
  EXPECT_TRUE(tokenizer->is_special(count));
  EXPECT_FALSE(tokenizer->is_special(count + 1));
  EXPECT_TRUE(tokenizer->is_special(count + 2));
}

TEST_F(SentencePieceFile, GivesWayToATokenizerJson) {
  fs::copy_file(fs::path(FT_GOLDEN_DIR) / "text" / "gpt2" / "tokenizer.json", folder_ / "tokenizer.json");
  EXPECT_EQ(Tokenizer::load(folder_)->file().filename(), "tokenizer.json");
}

TEST_F(SentencePieceFile, RefusesWhatIsDamaged) {
  for (size_t part = 0; part < 64; ++part) {
    write("tokenizer.model", model_.substr(0, model_.size() * part / 64));
    SCOPED_TRACE(part);
    fault();
  }
  const std::string unknown = piece("<unk>", 2);
  const std::pair<std::string, const char*> broken[] = {
      {"", "is empty"},
      {piece("a", 1), "has no unknown piece"},
      {unknown + piece("<u>", 2), "piece 1, '<u>', is a second unknown piece"},
      {unknown + piece("a", 1) + piece("a", 1), "has two pieces 'a'"},
      {unknown + piece("", 1), "piece 1 has no text"},
      {unknown + piece("\xC0", 1), "not UTF-8"},
      {unknown + piece("a", 9), "piece 1 is of type 9"},
      {unknown + piece("<0x0A>", 6), "stands for no byte"},
      {unknown + field(1, field(1, "a") + std::string("\x15\x00\x00\xC0\x7F", 5)), "score that is not a number"},
      {unknown + field(2, "\x18\x03"), "model_type 3 (BPE and Unigram are) is not implemented"},
      {unknown + field(2, std::string("\x98\x02\x01", 3)), "not a piece for each byte"},
      {unknown + field(2, std::string("\xC0\x01\x01", 3)), "treat_whitespace_as_suffix is not implemented"},
      {unknown + field(3, std::string("\x28\x00", 2)), "escape_whitespaces = false is not implemented"},
      {unknown + field(3, field(2, "\xFF\xFF\xFF\xFF ")), "states a trie of 4294967295 bytes"},
      {"\x0A\xFF\xFF\xFF\xFF\x0F", "ends within a field"},
      {"\x0B", "a field of an unknown type"}};
  for (const auto& [bytes, message] : broken) {
    write("tokenizer.model", bytes);
    EXPECT_THAT(fault(), HasSubstr(message));
  }
  write("tokenizer.model", "IQ== 0\nIg== 1\n");
  EXPECT_THAT(fault(), HasSubstr("a tokenizer.json beside it"));
  write("tokenizer.model", model_);
  write("tokenizer_config.json", R"({"tokenizer_class": "XLMRobertaTokenizer"})");
  EXPECT_THAT(fault(), HasSubstr("tokenizer_class XLMRobertaTokenizer with a tokenizer.model is not implemented"));
}

}  // namespace
}  // namespace ft
