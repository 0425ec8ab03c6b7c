// Tokenizers with more tokens: the ids that transformers gives them, every file that says them, and the folder they
// were made from as it was.
#include "engine/text/edited_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/text/tokenizer.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// Ids 0 to 6 are the model's, 5 and 6 added tokens, too; 7 stands behind.
constexpr const char* kTokenizer = R"({
  "version": "1.0",
  "added_tokens": [
    {"id": 5, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 6, "content": "<r0>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 7, "content": "<r1>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
  ],
  "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
  "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
    "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
    "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3, "ü": 4, "<s>": 5, "<r0>": 6}, "merges": [["a", "b"]]}
})";
constexpr const char* kConfig = R"({"bos_token": "<s>", "model_max_length": 1000000000000000019884624838656,
  "added_tokens_decoder": {"5": {"content": "<s>", "special": true}}, "additional_special_tokens": ["<r0>"]})";

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class EditedTokenizer : public testing::Test {
 protected:
  EditedTokenizer() : folder_(fs::temp_directory_path() / ("ft_edited_" + std::to_string(getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(source());
    write("tokenizer.json", kTokenizer);
    write("tokenizer_config.json", kConfig);
    write("special_tokens_map.json", R"({"bos_token": "<s>"})");
    write("added_tokens.json", R"({"<r1>": 7})");
    write("generation_config.json", R"({"temperature": 1.0})");
    write("chat_template.jinja", "{{ messages }}");
    write("weights.bin", "not a tokenizer's");
  }
  ~EditedTokenizer() override { fs::remove_all(folder_); }

  fs::path source() const { return folder_ / "model"; }
  void write(const std::string& name, const std::string& text) { std::ofstream(source() / name) << text; }
  fs::path edit(const Value& edits) const { return edited_tokenizer(source(), edits, folder_ / "cache"); }
  std::string refused(const Value& edits) const {
    try {
      edit(edits);
      return "nothing";
    } catch (const Error& error) {
      return error.what();
    }
  }

  fs::path folder_;
};

TEST_F(EditedTokenizer, GivesNewTokensTheNextIds) {
  std::map<std::string, std::string> before;
  for (const auto& file : fs::directory_iterator(source())) before[file.path().filename()] = slurp(file.path());
  const fs::path made =
      edit(Value::map({{"added_tokens", Value::list({"<t>", "ab", "<t>"})},
                       {"special_tokens", Value::map({{"pad_token", "<p>"},
                                                      {"additional_special_tokens", Value::list({"<x>"})},
                                                      {"eos_token", "<r1>"}})}}));
  const auto tokenizer = Tokenizer::load(made);
  // Special ones in the order of the table, then the others.
  EXPECT_EQ(tokenizer->token_id("<p>"), 8);
  EXPECT_EQ(tokenizer->token_id("<x>"), 9);
  EXPECT_EQ(tokenizer->token_id("<t>"), 10);
  EXPECT_EQ(tokenizer->vocab_size(), 11);
  EXPECT_THAT(tokenizer->encode("c<t>ab<x>üa", false), ElementsAre(3, 10, 2, 9, 4, 0));
  EXPECT_EQ(tokenizer->pad_id(), 8);
  EXPECT_EQ(tokenizer->eos_id(), 7);
  EXPECT_EQ(tokenizer->bos_id(), 5);
  EXPECT_TRUE(tokenizer->is_special(9));
  EXPECT_FALSE(tokenizer->is_special(10)) << "added, not special";
  EXPECT_EQ(read_json(made / "edits.json").at("new"),
            Value::list({Value::map({{"id", 8}, {"content", "<p>"}}), Value::map({{"id", 9}, {"content", "<x>"}}),
                         Value::map({{"id", 10}, {"content", "<t>"}})}));

  const Value config = read_json(made / "tokenizer_config.json");
  EXPECT_EQ(config.at("pad_token"), Value("<p>"));
  EXPECT_EQ(config.at("additional_special_tokens"), Value::list({"<r0>", "<x>"}));
  EXPECT_EQ(config.at("added_tokens_decoder").at("10").at("content"), Value("<t>"));
  EXPECT_EQ(config.at("added_tokens_decoder").at("9").at("special"), Value(true));
  EXPECT_THAT(slurp(made / "tokenizer_config.json"), HasSubstr("1000000000000000019884624838656"));
  EXPECT_EQ(read_json(made / "special_tokens_map.json").at("eos_token"), Value("<r1>"));
  EXPECT_EQ(read_json(made / "added_tokens.json").at("<x>"), Value(9));
  EXPECT_EQ(slurp(made / "chat_template.jinja"), "{{ messages }}");
  EXPECT_FALSE(fs::exists(made / "weights.bin"));

  for (const auto& [name, text] : before) EXPECT_EQ(slurp(source() / name), text) << name;
  EXPECT_EQ(static_cast<size_t>(std::distance(fs::directory_iterator(source()), {})), before.size());
}

TEST_F(EditedTokenizer, IsFoundAgainUntilSomethingIsOtherwise) {
  const Value edits = Value::map({{"added_tokens", Value::list({"<t>"})}});
  const fs::path made = edit(edits);
  const auto time = fs::last_write_time(made / "tokenizer.json");
  EXPECT_EQ(edit(edits), made);
  EXPECT_EQ(fs::last_write_time(made / "tokenizer.json"), time);
  EXPECT_NE(edit(Value::map({{"added_tokens", Value::list({"<u>"})}})), made);
  write("chat_template.jinja", "another");
  const fs::path another = edit(edits);
  EXPECT_NE(another, made);
  EXPECT_EQ(slurp(another / "chat_template.jinja"), "another");
}

TEST_F(EditedTokenizer, CallsReservedTokensOtherwise) {
  const fs::path made = edit(Value::map({{"renamed_tokens", Value::map({{"6", "<think>"}, {"7", "</think>"}})}}));
  const auto tokenizer = Tokenizer::load(made);
  EXPECT_EQ(tokenizer->token_id("<think>"), 6) << "of the model's vocabulary, too";
  EXPECT_EQ(tokenizer->token_id("</think>"), 7);
  EXPECT_EQ(tokenizer->token_id("<r0>"), std::nullopt);
  EXPECT_EQ(tokenizer->vocab_size(), 8);
  EXPECT_THAT(tokenizer->encode("<think>a</think>", false), ElementsAre(6, 0, 7));
}

TEST_F(EditedTokenizer, RefusesWhatItCannotDo) {
  EXPECT_THAT(refused(Value::map({{"renamed_tokens", Value::map({{"0", "x"}})}})),
              HasSubstr("model.renamed_tokens: the tokenizer has no added token of id 0"));
  EXPECT_THAT(refused(Value::map({{"renamed_tokens", Value::map({{"7", "<s>"}})}})),
              HasSubstr("the tokenizer has '<s>' already, as id 5"));
  EXPECT_THAT(refused(Value::map({{"added_tokens", Value::list({""})}})), HasSubstr("want a token's text"));
  EXPECT_THAT(refused(Value::map({{"added_tokens", Value::list({3})}})), HasSubstr("model.added_tokens: got 3"));
  EXPECT_THAT(refused(Value::map({{"special_tokens", Value::map({{"end_token", "x"}})}})),
              HasSubstr("unknown key 'end_token'"));
  EXPECT_TRUE(fs::is_empty(folder_ / "cache")) << "nothing half-made stays";
  fs::remove(source() / "tokenizer.json");
  EXPECT_THAT(refused(Value::map({{"added_tokens", Value::list({"x"})}})), HasSubstr("has no tokenizer.json"));
}

}  // namespace
}  // namespace ft
