// Tokenizers with more tokens: the ids that transformers gives them, every file that says them, and the folder they
// were made from as it was.
#include "engine/text/edited_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/text/common.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

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

using test::slurp;

class EditedTokenizer : public testing::Test {
 protected:
  EditedTokenizer() {
    write("tokenizer.json", kTokenizer);
    write("tokenizer_config.json", kConfig);
    write("special_tokens_map.json", R"({"bos_token": "<s>"})");
    write("added_tokens.json", R"({"<r1>": 7})");
    write("generation_config.json", R"({"temperature": 1.0})");
    write("chat_template.jinja", "{{ messages }}");
    write("weights.bin", "not a tokenizer's");
  }

  fs::path source() const { return folder_ / "model"; }
  void write(const std::string& name, const std::string& text) { test::spill(source() / name, text); }
  fs::path edit(const Value& edits) const { return edited_tokenizer(source(), edits, folder_ / "cache"); }
  std::string refused(const Value& edits) const {
    return test::refusal([&] { edit(edits); });
  }

  const test::TemporaryDirectory folder_;
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
  EXPECT_EQ(read_json(made / "tokenizer_config.json").at("additional_special_tokens"), Value::list({"<think>"}))
      << "transformers would add <r0> again";
  EXPECT_EQ(read_json(made / "added_tokens.json"), Value::map({{"<think>", 6}, {"</think>", 7}}));
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
  EXPECT_THAT(refused(Value::map({{"added_tokens", Value::list({"x"})}})),
              HasSubstr("has neither tokenizer.json nor tokenizer.model"));
}

/// A folder with a SentencePiece model alone, against what transformers makes of it
/// (tests/golden/sentencepiece_tokens.py).
class EditedPieces : public testing::TestWithParam<std::string> {
 protected:
  EditedPieces() : golden_(read_json(fs::path(FT_GOLDEN_DIR) / "sentencepiece_tokens.json").at(GetParam())) {
    fs::create_directories(source());
    for (const char* name : {"tokenizer.model", "tokenizer_config.json"}) fs::copy(model() / name, source() / name);
  }

  fs::path source() const { return folder_ / "model"; }
  fs::path model() const { return fs::path(FT_GOLDEN_DIR) / "sentencepiece" / golden_.at("model").as_string(); }
  /// Puts transformers' own files beside the model.
  void lay_out(const char* age) const {
    for (const auto& [name, content] : golden_.at(age).as_map())
      std::ofstream(source() / name, std::ios::trunc) << write_json(content);
  }
  void expect_rows(const fs::path& folder) const {
    const auto tokenizer = Tokenizer::load(folder);
    for (const Value& row : golden_.at("rows").as_list()) {
      SCOPED_TRACE(write_json(row.at("text")));
      const std::vector<int32_t> ids = ids_of(row.at("ids"));
      EXPECT_EQ(tokenizer->encode(row.at("text").as_string(), true), ids);
      EXPECT_EQ(tokenizer->encode(row.at("text").as_string(), false), ids_of(row.at("plain")));
      EXPECT_EQ(tokenizer->decode(ids, false), row.at("decode").as_string());
      EXPECT_EQ(tokenizer->decode(ids, true), row.at("skip").as_string());
    }
    for (const auto& [token, id] : golden_.at("new").as_map()) EXPECT_EQ(tokenizer->token_id(token), id.as_integer());
  }

  const test::TemporaryDirectory folder_;
  Value golden_;
};

TEST_P(EditedPieces, GetTransformersIds) {
  const fs::path made = edited_tokenizer(source(), golden_.at("edits"), folder_ / "cache");
  expect_rows(made);
  EXPECT_FALSE(fs::exists(made / "tokenizer.json"));
  const Value config = read_json(made / "tokenizer_config.json");
  for (const auto& [token, id] : golden_.at("new").as_map())
    EXPECT_EQ(config.at("added_tokens_decoder").at(std::to_string(id.as_integer())).at("content"), Value(token));
  for (const char* said : {"bos_token", "add_bos_token", "legacy", "tokenizer_class"})
    EXPECT_NE(config.find(said), nullptr) << said << " has another default in another version";
}

TEST_P(EditedPieces, AreReadFromTransformersFiles) {
  lay_out("saved");
  expect_rows(source());
  if (golden_.at("older").is_null()) return;
  fs::remove(source() / "tokenizer_config.json");
  lay_out("older");
  expect_rows(source());
}

TEST_P(EditedPieces, AreAddedToTransformersFiles) {
  lay_out("saved");
  const fs::path made =
      edited_tokenizer(source(), Value::map({{"added_tokens", Value::list({"<more>"})}}), folder_ / "cache");
  expect_rows(made);
  const int64_t id = Tokenizer::load(source())->vocab_size();
  EXPECT_EQ(Tokenizer::load(made)->token_id("<more>"), id);
  EXPECT_EQ(read_json(made / "added_tokens.json").at("<more>"), Value(id));
  EXPECT_EQ(read_json(made / "added_tokens.json").find("<s>"), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Text, EditedPieces,
                         testing::Values("llama_plain", "llama_marks", "llama_new_marks", "llama_eos_marks",
                                         "unigram_marks", "unigram_bytes_plain", "bpe_rules_marks"),
                         [](const auto& info) { return info.param; });

class RenamedPieces : public EditedPieces {};
TEST_P(RenamedPieces, StandInTheModel) {
  const fs::path made = edited_tokenizer(
      source(), Value::map({{"renamed_tokens", Value::map({{"2", "<a name that is longer>"}})}}), folder_ / "cache");
  const auto before = Tokenizer::load(source()), after = Tokenizer::load(made);
  EXPECT_EQ(after->token_id("<a name that is longer>"), 2);
  EXPECT_EQ(after->token_id("</s>"), std::nullopt);
  EXPECT_EQ(after->eos_id(), 2);
  EXPECT_EQ(after->vocab_size(), before->vocab_size());
  EXPECT_EQ(after->encode("ba ke<a name that is longer>", true), before->encode("ba ke</s>", true));
  EXPECT_THROW(
      edited_tokenizer(source(), Value::map({{"renamed_tokens", Value::map({{"300", "x"}})}}), folder_ / "cache"),
      Error)
      << "no reserved token";
}
INSTANTIATE_TEST_SUITE_P(Text, RenamedPieces, testing::Values("llama_plain", "unigram_marks"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ft
