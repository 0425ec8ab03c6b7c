#include "engine/data/token_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/error/error.h"
#include "engine/text/tokenizer.h"
#include "tests/thrown.h"

namespace ft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int32_t> to_vector(std::span<const int32_t> s) { return {s.begin(), s.end()}; }

TEST(TokenRows, KeepsRowsApart) {
  TokenRows rows;
  EXPECT_TRUE(rows.add(std::vector<int32_t>{1, 2, 3}, std::vector<int32_t>{-100, 2, 3}, {"f", 1}));
  EXPECT_TRUE(rows.add(std::vector<int32_t>{4, 5}, std::vector<int32_t>{4, 5}, {"f", 9}));
  ASSERT_EQ(rows.size(), 2);
  EXPECT_THAT(to_vector(rows.ids(1)), ElementsAre(4, 5));
  EXPECT_THAT(to_vector(rows.labels(0)), ElementsAre(-100, 2, 3));
  EXPECT_EQ(rows.line(1), 9);
  EXPECT_EQ(rows.num_tokens(), 5);
  EXPECT_EQ(rows.num_targets(), 3);  // the first label of a row has nothing before it
  EXPECT_EQ(rows.longest(), 3);
}

TEST(TokenRows, LongRowsGoByTheOption) {
  const std::vector<int32_t> ids{1, 2, 3, 4};
  TokenRows cut({.seq_len = 3});
  EXPECT_TRUE(cut.add(ids, ids));
  EXPECT_EQ(cut.length(0), 3);
  EXPECT_EQ(cut.counts().truncated, 1);
  EXPECT_EQ(cut.counts().tokens_cut, 1);
  EXPECT_THAT(cut.report(), HasSubstr("1 truncated to 3 (1 tokens cut)"));
  TokenRows drop({.seq_len = 3, .too_long = TooLong::drop});
  EXPECT_FALSE(drop.add(ids, ids));
  EXPECT_EQ(drop.counts().dropped, 1);
  EXPECT_THAT(test::refusal([&] { drop.check_trainable("x.jsonl"); }), HasSubstr("1 longer than seq_len and dropped"));
  TokenRows strict({.seq_len = 3, .too_long = TooLong::error});
  EXPECT_THAT(test::refusal([&] {
                strict.add(ids, ids, {"x.jsonl", 4});
              }),
              HasSubstr("x.jsonl:4: a row of 4 tokens, want at most seq_len = 3"));
  TokenRows fits({.seq_len = 4, .too_long = TooLong::error});
  EXPECT_TRUE(fits.add(ids, ids));
}

TEST(TokenRows, RefusesIdsBeyondTheVocabulary) {
  TokenRows rows({.vocab_size = 10});
  const std::vector<int32_t> good{1, 9}, high{1, 10}, low{-1, 2};
  EXPECT_TRUE(rows.add(good, good));
  EXPECT_THAT(test::refusal([&] {
                rows.add(high, good, {"x.jsonl", 3});
              }),
              HasSubstr("x.jsonl:3: id 10 at token 1 is outside the vocabulary of 10"));
  EXPECT_THAT(test::refusal([&] { rows.add(low, good); }), HasSubstr("row 3: id -1 at token 0"));
  EXPECT_THAT(test::refusal([&] { rows.add(good, high, {"x.jsonl", 3}); }), HasSubstr("label 10 at token 1"));
  EXPECT_THAT(test::refusal([&] {
                rows.add(good, std::vector<int32_t>{1, -99}, {"x.jsonl", 3});
              }),
              HasSubstr("label -99"));
  EXPECT_THAT(test::refusal([&] {
                rows.add(good, std::vector<int32_t>{1}, {"x.jsonl", 3});
              }),
              HasSubstr("2 ids but 1 labels"));
  EXPECT_EQ(rows.size(), 1);
}

TEST(TokenRows, RefusesADataSetWithNothingToTrainOn) {
  TokenRows rows({.seq_len = 2});
  EXPECT_THAT(test::refusal([&] { rows.check_trainable("x.jsonl"); }), HasSubstr("x.jsonl: is an empty data set"));
  EXPECT_FALSE(rows.add(std::vector<int32_t>{1, 2, 3}, std::vector<int32_t>{-100, -100, 3}));  // its answer is cut off
  EXPECT_FALSE(rows.add(std::vector<int32_t>{1}, std::vector<int32_t>{1}));  // nothing before its only token
  EXPECT_FALSE(rows.add({}, {}));
  EXPECT_THAT(test::refusal([&] { rows.check_trainable("x.jsonl"); }),
              HasSubstr("no row has a token to train on: 3 rows"));
  EXPECT_TRUE(rows.add(std::vector<int32_t>{1, 2}, std::vector<int32_t>{-100, 2}));
  rows.check_trainable("x.jsonl");
  EXPECT_EQ(rows.counts().untrained, 3);
}

class Segments : public ::testing::Test {
 protected:
  /// The tokens trained by these segments, as text between bars.
  std::string trained(const std::vector<Segment>& segments, bool special = false, const char* kind = "gpt2") {
    const auto tokenizer = Tokenizer::load(std::filesystem::path(FT_GOLDEN_DIR) / "text" / kind);
    TokenRows rows;
    if (!rows.add_segments(*tokenizer, segments, special)) return "nothing";
    std::string text, out;
    for (const Segment& s : segments) text += s.text;
    EXPECT_EQ(to_vector(rows.ids(0)), tokenizer->encode(text, special));
    for (int64_t t = 0; t < rows.length(0); ++t) {
      const int32_t id = rows.ids(0)[t], label = rows.labels(0)[t];
      if (label == kIgnoreLabel) continue;
      EXPECT_EQ(label, id);
      out += tokenizer->decode({&id, 1}, false);
    }
    return out;
  }
};

TEST_F(Segments, TrainTokensThatBeginInATrainedSegment) {
  EXPECT_EQ(trained({{"<|end|>ba ke", false}, {"水山です", true}, {"<|end|>", true}, {"ba", false}}),
            "水山です<|end|>");
  EXPECT_EQ(trained({{"ba", false}, {"", true}, {" ke", true}, {"", false}}), " ke");
  EXPECT_EQ(trained({{"ba", false}, {" ke", false}}), "nothing");
  EXPECT_EQ(trained({}), "nothing");
}

// "tun" is one token of this vocabulary: it belongs to the segment of its first byte, and tokens are those of the whole
// text.
TEST_F(Segments, ATokenAcrossABorderBelongsToItsFirstByte) {
  EXPECT_EQ(trained({{"ba t", false}, {"un ba", true}}), " ba");
  EXPECT_EQ(trained({{"ba", true}, {" t", true}, {"un ba", false}}), "ba tun");
}

TEST_F(Segments, WhatTheTemplateAddsInFrontIsNotTrained) {
  EXPECT_EQ(trained({{"ba", true}, {" ke", true}}, true, "llama"), "ba ke<|end|>");
  EXPECT_EQ(trained({{"ba", true}, {" ke", false}}, true, "llama"), "ba");
}

TEST(TooLongOption, IsParsed) {
  for (const TooLong choice : {TooLong::truncate, TooLong::drop, TooLong::error})
    EXPECT_EQ(parse_too_long(to_string(choice)), choice);
  EXPECT_THAT(test::refusal([] { parse_too_long("cut"); }),
              HasSubstr("too_long: got 'cut', want truncate, drop or error"));
}

}  // namespace
}  // namespace ft
