// Tokenizers trained by tests/golden/text.py against Hugging Face `tokenizers`, and what must hold for any tokenizer.
#include "engine/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <sstream>
#include <thread>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "tests/engine/text/common.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

fs::path golden(const std::string& kind) { return fs::path(FT_GOLDEN_DIR) / "text" / kind; }

std::vector<Value> gold_rows(const std::string& kind) { return read_rows(golden(kind) / "gold.jsonl"); }

/// A folder with the files of a tokenizer, gone when the test ends.
class TokenizerTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) { test::spill(folder_ / name, text); }

  /// tokenizer.json with one part replaced.
  void write_with(const std::string& key, const std::string& part) {
    Value tree = parse_json(kSmall, "small");
    tree.set(key, parse_json(part, key));
    write("tokenizer.json", write_json(tree));
  }
  void write_with_model(const std::string& key, const std::string& part) {
    Value tree = parse_json(kSmall, "small");
    tree.find("model")->set(key, parse_json(part, key));
    write("tokenizer.json", write_json(tree));
  }

  std::string fault() {
    const std::string said = test::refusal([&] { Tokenizer::load(folder_); });
    if (said != "was taken") {
      EXPECT_THAT(said, HasSubstr("tokenizer"));
    }
    return said;
  }

  static constexpr const char* kSmall = R"({"added_tokens": [{"id": 4, "content": "<e>", "special": true}],
    "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": ["a b"]}})";
  const test::TemporaryDirectory folder_;
};

class Golden : public ::testing::TestWithParam<const char*> {};
TEST_P(Golden, EqualsHuggingFace) {
  const auto tokenizer = Tokenizer::load(golden(GetParam()));
  const std::vector<Value> rows = gold_rows(GetParam());
  ASSERT_GT(rows.size(), 150u);
  for (const Value& row : rows) {
    const std::string& text = row.at("text").as_string();
    const std::vector<int32_t> ids = ids_of(row.at("ids"));
    EXPECT_EQ(tokenizer->encode(text, true), ids) << write_json(row.at("text"));
    EXPECT_EQ(tokenizer->encode(text, false), ids_of(row.at("plain"))) << write_json(row.at("text"));
    EXPECT_EQ(tokenizer->decode(ids, false), row.at("decode").as_string());
    EXPECT_EQ(tokenizer->decode(ids, true), row.at("skip").as_string());
  }
}

TEST_P(Golden, OffsetsRunThroughTheText) {
  const auto tokenizer = Tokenizer::load(golden(GetParam()));
  for (const Value& row : gold_rows(GetParam())) {
    const std::string& text = row.at("text").as_string();
    uint32_t begin = 0;
    for (const Tokenizer::Token& token : tokenizer->encode_with_offsets(text, true)) {
      EXPECT_LE(begin, token.begin);
      EXPECT_LE(token.begin, token.end);
      EXPECT_LE(token.end, text.size());
      begin = token.begin;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Kinds, Golden, ::testing::Values("gpt2", "llama", "qwen", "parts"));

TEST_F(TokenizerTest, OffsetsPointIntoTheTextBeforeNfc) {
  const auto tokenizer = Tokenizer::load(golden("qwen"));
  const std::string text = "x e\u0301<|end|>ne\u0301";
  for (const Tokenizer::Token& token : tokenizer->encode_with_offsets(text, false)) {
    EXPECT_NE(static_cast<unsigned char>(text[token.begin]) & 0xC0, 0x80);  // characters are whole
    if (token.id == *tokenizer->token_id("<|end|>")) {
      EXPECT_EQ(text.substr(token.begin, token.end - token.begin), "<|end|>");
    }
  }
}

TEST_F(TokenizerTest, OffsetsCoverEveryByteInWholeCharacters) {
  const auto tokenizer = Tokenizer::load(golden("gpt2"));
  const std::string text = "Über 12 <|end|> 水山です\n\n  it's";
  uint32_t covered = 0;
  for (const Tokenizer::Token& token : tokenizer->encode_with_offsets(text, false)) {
    EXPECT_LE(token.begin, covered);
    EXPECT_GT(token.end, token.begin);
    EXPECT_TRUE(token.end == text.size() || (static_cast<unsigned char>(text[token.end]) & 0xC0) != 0x80);
    covered = token.end;
  }
  EXPECT_EQ(covered, text.size());
}

TEST_F(TokenizerTest, ManyThreadsGetTheSameIds) {
  const auto tokenizer = Tokenizer::load(golden("qwen"));
  const std::vector<Value> rows = gold_rows("qwen");
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (const Value& row : rows)
        wrong += tokenizer->encode(row.at("text").as_string(), false) != ids_of(row.at("plain"));
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(TokenizerTest, ReadsTheMarksBesideIt) {
  write("tokenizer.json", kSmall);
  write("tokenizer_config.json", R"({"eos_token": {"content": "<e>"}, "pad_token": null,
    "added_tokens_decoder": {"4": {"content": "<e>", "special": true}, "5": {"content": "<more>", "special": true}}})");
  write("special_tokens_map.json", R"({"bos_token": "<more>"})");
  write("generation_config.json", R"({"eos_token_id": [4, 2], "pad_token_id": 3})");
  const auto tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer->eos_id(), 4);
  EXPECT_EQ(tokenizer->bos_id(), 5);
  EXPECT_EQ(tokenizer->pad_id(), 3);
  EXPECT_THAT(tokenizer->stop_ids(), ElementsAre(4, 2));
  EXPECT_EQ(tokenizer->vocab_size(), 6);
  EXPECT_THAT(tokenizer->encode("ab<more>", false), ElementsAre(2, 5));
  EXPECT_TRUE(tokenizer->is_special(5));
  EXPECT_FALSE(tokenizer->is_special(2));
}

TEST_F(TokenizerTest, PutsAroundTextsWhatTokenizerJsonSaysWhateverItsConfigurationHas) {
  write_with("post_processor", R"({"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<e>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"<e>": {"id": "<e>", "ids": [4], "tokens": ["<e>"]}}})");
  write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true, "eos_token": "<e>"})");
  EXPECT_THAT(Tokenizer::load(folder_)->encode("ab", true), ElementsAre(4, 2));
}

// What transformers 5.23 makes of such folders (its fast tokenizers' get_added_tokens_decoder and ids).
TEST_F(TokenizerTest, FindsTheTokensThatItsConfigurationNames) {
  write("tokenizer.json", kSmall);
  write("tokenizer_config.json", R"({"add_bos_token": false, "unk_token": "ab"})");
  const auto named = Tokenizer::load(folder_);
  EXPECT_TRUE(named->is_special(2));
  EXPECT_FALSE(named->is_special(1));
  write_with_model("merges", "[]");  // so that only the added token can give 2
  for (const char* config :
       {R"({"eos_token": "ab"})", R"({"image_token": {"content": "ab"}})", R"({"additional_special_tokens": ["ab"]})",
        R"({"extra_special_tokens": {"image_token": "ab"}})", R"({"extra_special_tokens": [{"content": "ab"}]})"}) {
    write("tokenizer_config.json", config);
    EXPECT_THAT(Tokenizer::load(folder_)->encode("aba", false), ElementsAre(2, 0)) << config;
  }
  write("tokenizer_config.json", "{}");
  EXPECT_THAT(Tokenizer::load(folder_)->encode("aba", false), ElementsAre(0, 1, 0));
  write("special_tokens_map.json", R"({"sep_token": "ab"})");
  EXPECT_THAT(Tokenizer::load(folder_)->encode("aba", false), ElementsAre(2, 0));
  write("special_tokens_map.json", "{}");
  for (const char* config : {R"({"additional_special_tokens": ["<new>"]})", R"({"fill_token": "<new>"})"}) {
    write("tokenizer_config.json", config);
    const auto without = Tokenizer::load(folder_);
    EXPECT_EQ(without->token_id("<new>"), std::nullopt);
    EXPECT_FALSE(without->encode("a<ne", false).empty());
    EXPECT_THAT(test::refusal([&] { without->encode("a <new>", false); }),
                HasSubstr("text has '<new>', which tokenizer_config.json calls a token, and no file has an id for it"));
  }
  write("tokenizer_config.json", R"({"split_special_tokens": true})");
  EXPECT_THAT(fault(), HasSubstr("tokenizer_config.json: split_special_tokens is not implemented"));
}

TEST_F(TokenizerTest, TakesFlagsAndOlderTokensFromBesideIt) {
  write("tokenizer.json", kSmall);
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"4": {"content": "<e>", "lstrip": true}}})");
  const auto flags = Tokenizer::load(folder_);
  EXPECT_THAT(flags->encode("a <e>", false), ElementsAre(0, 4));
  EXPECT_TRUE(flags->is_special(4)) << "special in either";
  write("tokenizer_config.json", "{}");
  EXPECT_THAT(Tokenizer::load(folder_)->encode("a <e>", false), ElementsAre(0, 3, 4));
  write("added_tokens.json", R"({"<e>": 4, "<old>": 5})");
  EXPECT_THAT(Tokenizer::load(folder_)->encode("a <e><old>", false), ElementsAre(0, 3, 4, 5));
  write("added_tokens.json", R"({"<old>": 9})");
  EXPECT_THAT(fault(), HasSubstr("'<old>' states id 9, but Hugging Face tokenizers gives it 5"));
  write("added_tokens.json", R"({"<old>": "x"})");
  EXPECT_THAT(test::refusal([&] { Tokenizer::load(folder_); }),
              HasSubstr("added_tokens.json: gives '<old>' 'x', want an id"));
  write("added_tokens.json", "[]");
  EXPECT_THAT(test::refusal([&] { Tokenizer::load(folder_); }),
              HasSubstr("added_tokens.json: is [], want a map of tokens to ids"));
}

TEST_F(TokenizerTest, RefusesPartsOfAnotherType) {
  const std::pair<const char*, const char*> model[] = {{"merges", "-1"},        {"merges", "null"},
                                                       {"fuse_unk", "\"yes\""}, {"byte_fallback", "\"true\""},
                                                       {"ignore_merges", "1"},  {"unk_token", "3"}};
  for (const auto& [key, part] : model) {
    write_with_model(key, part);
    EXPECT_THAT(fault(), HasSubstr("want")) << key << ' ' << part;
  }
  write_with_model("unk_token", "\"\"");
  EXPECT_EQ(fault(), "was taken") << "each byte has a token";
  Value tree = parse_json(kSmall, "small");
  tree.set("pre_tokenizer", Value());
  tree.find("model")->set("unk_token", "");
  write("tokenizer.json", write_json(tree));
  EXPECT_THAT(fault(), HasSubstr("unk_token is not in the vocabulary"));
  write_with("version", "\"2.0\"");
  EXPECT_THAT(fault(), HasSubstr("version is '2.0', want '1.0'"));
  write_with("version", "\"1.0\"");
  EXPECT_EQ(fault(), "was taken");
}

TEST_F(TokenizerTest, DecodesBrokenBytesAsReplacementCharacters) {
  const auto tokenizer = Tokenizer::load(golden("gpt2"));
  const std::vector<int32_t> ids = tokenizer->encode("火", false);
  const std::vector<int32_t> cut(ids.begin(), ids.end() - 1);
  EXPECT_EQ(tokenizer->decode({}, false), "");
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{-1, 1 << 30}, false), "");
  ASSERT_FALSE(cut.empty());
  EXPECT_EQ(tokenizer->decode(cut, false), "\uFFFD");
}

TEST_F(TokenizerTest, RefusesPartsByName) {
  const std::pair<const char*, const char*> parts[] = {
      {"normalizer", R"({"type": "Odd"})"},
      {"normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Odd"}]})"},
      {"pre_tokenizer", R"({"type": "Odd"})"},
      {"pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "Odd"}, {"type": "ByteLevel"}]})"},
      {"post_processor", R"({"type": "Odd"})"},
      {"decoder", R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Odd"}]})"},
      {"model", R"({"type": "Odd", "vocab": {}})"},
  };
  for (const auto& [key, part] : parts) {
    write_with(key, part);
    EXPECT_THAT(fault(), HasSubstr(std::string(key) + ": Odd is not implemented"));
  }
  write_with_model("dropout", "0.1");
  EXPECT_THAT(fault(), HasSubstr("model: dropout is not implemented"));
  write_with_model("dropout", "0.0");
  EXPECT_EQ(fault(), "was taken");
  write_with_model("type", "\"Unigram\"");
  EXPECT_THAT(fault(), HasSubstr("model.vocab: Unigram wants a list"));
  const std::pair<const char*, const char*> broken[] = {
      {R"({"type": "Precompiled", "precompiled_charsmap": "?"})", "is not base64"},
      {R"({"type": "Precompiled", "precompiled_charsmap": "AAA"})", "is too short"},
      {R"({"type": "Precompiled", "precompiled_charsmap": "/////w=="})", "states a trie of 4294967295 bytes"}};
  for (const auto& [part, message] : broken) {
    write_with("normalizer", part);
    EXPECT_THAT(fault(), HasSubstr(message));
  }
  write_with("truncation", R"({"max_length": 4, "strategy": "Odd", "direction": "Right", "stride": 0})");
  EXPECT_THAT(fault(), HasSubstr("truncation: strategy Odd is not implemented"));
}

// Oniguruma has two tables of what a word is, and looks Latin-1 up in another one inside of a class.
TEST_F(TokenizerTest, TakesSomeNumbersForWordsOutsideOfClassesAlone) {
  struct Case {
    const char* pattern;
    bool numbers, letters;  // whether it finds them
  };
  const Case cases[] = {{R"(\\w)", true, true},       {R"(\\W)", false, false},       {R"([\\w])", false, true},
                        {R"([^\\w])", true, false},   {R"([\\W])", true, false},      {R"([^\\w\\s])", true, false},
                        {R"(\\p{Word})", true, true}, {R"([\\p{Word}])", false, true}};
  for (const Case& one : cases) {
    SCOPED_TRACE(one.pattern);
    write("tokenizer.json", std::string(R"({"model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"},
      "pre_tokenizer": {"type": "Split", "behavior": "Removed", "invert": false, "pattern": {"Regex": ")") +
                                one.pattern + R"("}}})");
    const auto tokenizer = Tokenizer::load(folder_.path());
    for (const char* text : {"²", "³", "¹", "¼", "½", "¾"})
      EXPECT_EQ(tokenizer->encode(text, false).empty(), one.numbers) << text;
    for (const char* text : {"a", "é", "٣", "ª"})
      EXPECT_EQ(tokenizer->encode(text, false).empty(), one.letters) << text;
  }
}

TEST_F(TokenizerTest, RefusesRegexConstructsByName) {
  const std::pair<const char*, const char*> patterns[] = {
      {R"(\\hx)", R"(regex escape '\h')"},
      {R"(\\bx)", R"(regex escape '\b')"},
      {R"(\\p{Klingon})", R"(regex property '\p{Klingon}')"},
      {R"([[:alpha:]])", "regex class '[:alpha:]]"},
      {R"([a&&])", "regex class '[a&&]"},
      {R"([a)", "regex class '[a"},
      {R"((?i:[a[^b]]))", "a negated class in a class, regardless of case, is not implemented"},
      {R"((?<n>x))", "regex group '(?<n'"},
      {R"(^x)", "regex anchor '^'"},
      {R"(x{2}+)", "regex interval '{2}+'"},
      {R"((x)", "PCRE2 refuses"}};
  for (const auto& [pattern, message] : patterns) {
    write_with("pre_tokenizer", std::string(R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern":)") +
                                    R"({"Regex": ")" + pattern +
                                    R"("}, "behavior": "Isolated", "invert": false}, {"type": "ByteLevel"}]})");
    EXPECT_THAT(fault(), HasSubstr(message)) << pattern;
  }
}

TEST_F(TokenizerTest, RefusesBrokenFiles) {
  EXPECT_THAT(fault(), HasSubstr("tokenizer.json"));
  write("tokenizer.json", "{\n\"model\": {\n oops");
  EXPECT_THAT(fault(), HasSubstr("tokenizer.json:3"));
  write("tokenizer.json", "[]");
  EXPECT_THAT(fault(), HasSubstr("not a JSON object"));
  write("tokenizer.json", "{}");
  EXPECT_THAT(fault(), HasSubstr("model"));
  write("tokenizer.json", "{\"model\": {\"vocab\": {\"a\": 0},\n\"merges\": []}\n\"x\": 5}");
  EXPECT_THAT(fault(), HasSubstr("tokenizer.json:3"));
  write("tokenizer.json", "{\"model\": {\"vocab\": {\n\n}}, \"x\": oops}");
  EXPECT_THAT(fault(), HasSubstr("tokenizer.json:3"));
  write("tokenizer.json", "{\"model\": {\"vocab\": {\"\\ud800x\": 1}}}");
  EXPECT_THAT(fault(), HasSubstr("half of a surrogate pair"));
  write("tokenizer.json", "{\"model\": {\"vocab\": {\"a");
  EXPECT_THAT(fault(), HasSubstr("a string without an end"));
  write("tokenizer.json", "{\"a\": \"\xC0\xAF\"}");
  EXPECT_THAT(fault(), HasSubstr("not UTF-8 at byte 7"));
  write_with_model("merges", R"([["a", "x"]])");
  EXPECT_THAT(fault(), HasSubstr("model.merges: merge 0, 'a' with 'x'"));
  write_with_model("merges", R"(["ab"])");
  EXPECT_THAT(fault(), HasSubstr("a merge that is not two tokens, 'ab', in model.merges"));
  write_with_model("vocab", R"({"a": -1})");
  EXPECT_THAT(fault(), HasSubstr("an id that is not a whole number in model.vocab"));
  write_with_model("vocab", R"({"a": 99999999999})");
  EXPECT_THAT(fault(), HasSubstr("an id that is too large in model.vocab"));
  write_with_model("vocab", R"({"a": 0, "b": 0})");
  EXPECT_THAT(fault(), HasSubstr("gives id 0 to both 'a' and 'b'"));
  write_with("added_tokens", R"([{"id": 9, "content": "<e>", "special": true}])");
  EXPECT_THAT(fault(), HasSubstr("added token '<e>' states id 9, but Hugging Face tokenizers gives it 4"));
  write("tokenizer.json", kSmall);
  write("tokenizer_config.json", R"({"eos_token": "</s>"})");
  EXPECT_THAT(fault(), HasSubstr("eos_token '</s>' is not a token"));
}

TEST_F(TokenizerTest, RefusesTextThatIsNotUtf8) {
  const auto tokenizer = Tokenizer::load(golden("gpt2"));
  for (const std::string& text : {std::string("ab\xC0\xAF"), std::string("ab\xED\xA0\x80"), std::string("ab\xE6\xB0")})
    EXPECT_THROW(tokenizer->encode(text, false), Error);
}

}  // namespace
}  // namespace ft
