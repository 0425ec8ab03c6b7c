#include "engine/data/examples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "tests/thrown.h"

namespace ft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Value row(const std::string& json) {
  Value v = parse_json(json, "rows.jsonl");
  v.origin = {"rows.jsonl", 7};
  return v;
}

std::string messages(const std::string& json) { return write_json(to_messages(row(json), detect_form(row(json)))); }

template <typename Call>
std::string fault(const Call& call) {
  const Error error = test::thrown(call);
  EXPECT_EQ(error.kind(), ErrorKind::format);
  EXPECT_THAT(error.what(), ::testing::StartsWith("rows.jsonl:7: "));
  return error.what();
}

TEST(Examples, KnowsTheForms) {
  EXPECT_EQ(detect_form(row(R"({"messages": []})")), RowForm::messages);
  EXPECT_EQ(detect_form(row(R"({"conversations": [{"from": "human", "value": "x"}]})")), RowForm::sharegpt);
  EXPECT_EQ(detect_form(row(R"({"conversations": [{"role": "user", "content": "x"}]})")), RowForm::messages);
  EXPECT_EQ(detect_form(row(R"({"instruction": "x", "output": "y", "text": "z"})")), RowForm::alpaca);
  EXPECT_EQ(detect_form(row(R"({"text": "x"})")), RowForm::completion);
  EXPECT_EQ(detect_form(row(R"({"input_ids": [1], "text": "x"})")), RowForm::tokens);
  EXPECT_THAT(fault([] { detect_form(row(R"({"prompt": "x", "answer": 1})")); }),
              HasSubstr("its keys: prompt, answer"));
  EXPECT_THAT(fault([] { detect_form(row("{}")); }), HasSubstr("its keys: none"));
}

TEST(Examples, BringsChatsToOneForm) {
  const std::string want =
      R"([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])";
  EXPECT_EQ(messages(R"({"messages": [{"role": "system", "content": "s"}, {"content": "q", "role": "user"},
    {"role": "assistant", "content": "a"}]})"),
            want);
  EXPECT_EQ(messages(R"({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"},
    {"from": "gpt", "value": "a"}]})"),
            want);
  EXPECT_EQ(
      messages(
          R"({"system": "s", "conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}]})"),
      want);
  EXPECT_EQ(messages(R"({"instruction": "q", "input": "", "output": "a", "system": "s"})"), want);
  EXPECT_EQ(messages(R"({"instruction": "q", "input": "i", "output": "a"})"),
            R"([{"role": "user", "content": "q\n\ni"}, {"role": "assistant", "content": "a"}])");
  EXPECT_EQ(messages(R"({"messages": [{"role": "user", "content": "q", "weight": 0}]})"),
            R"([{"role": "user", "content": "q", "weight": 0}])");
}

TEST(Examples, RefusesBadChats) {
  const auto chat = [](const std::string& turns) {
    return fault([&] { to_messages(row(R"({"messages": )" + turns + "}"), RowForm::messages); });
  };
  EXPECT_THAT(chat("[]"), HasSubstr("without turns"));
  EXPECT_THAT(chat("5"), HasSubstr("want a list"));
  EXPECT_THAT(chat("[5]"), HasSubstr("want an object"));
  EXPECT_THAT(chat(R"([{"role": "user"}])"), HasSubstr("no 'content'"));
  EXPECT_THAT(chat(R"([{"role": "user", "content": null}])"), HasSubstr("'content' is null, want a string"));
  EXPECT_THAT(chat(R"([{"role": "narrator", "content": "x"}])"), HasSubstr("unknown role 'narrator'"));
  EXPECT_THAT(fault([] { to_messages(row(R"({"text": "x"})"), RowForm::completion); }), HasSubstr("no conversation"));
}

TEST(Examples, WritesTheAlpacaPrompt) {
  const std::vector<Segment> with = alpaca_segments(row(R"({"instruction": "Add.", "input": "1 2", "output": "3"})"));
  ASSERT_EQ(with.size(), 2u);
  EXPECT_EQ(
      with[0].text,
      "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
      "response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### "
      "Response:");
  EXPECT_FALSE(with[0].train);
  EXPECT_EQ(with[1].text, "3");
  EXPECT_TRUE(with[1].train);
  const std::vector<Segment> without =
      alpaca_segments(row(R"({"instruction": "Add.", "output": "3", "system": "Be brief."})"));
  EXPECT_EQ(without[0].text, "Be brief.\n\n### Instruction:\nAdd.\n\n### Response:");
}

TEST(Examples, ReadsTokens) {
  const TokenExample both = token_example(row(R"({"input_ids": [1, 2, 3], "labels": [-100, 2, 3]})"));
  EXPECT_THAT(both.ids, ElementsAre(1, 2, 3));
  EXPECT_THAT(both.labels, ElementsAre(-100, 2, 3));
  EXPECT_THAT(token_example(row(R"({"input_ids": [1, 2]})")).labels, ElementsAre(1, 2));
  EXPECT_THAT(fault([] { token_example(row(R"({"input_ids": [1], "labels": []})")); }),
              HasSubstr("1 entries, labels 0"));
  EXPECT_THAT(fault([] { token_example(row(R"({"input_ids": [1.5]})")); }), HasSubstr("want integers"));
  EXPECT_THAT(fault([] { token_example(row(R"({"input_ids": [99999999999]})")); }), HasSubstr("want integers"));
  EXPECT_THAT(fault([] { token_example(row(R"({"input_ids": "x"})")); }), HasSubstr("want a list"));
  EXPECT_THAT(token_example(row(R"({"input_ids": [1, 2], "attention_mask": [1, 1]})")).ids, ElementsAre(1, 2));
  for (const char* mask : {"[1, 0]", "[1]", "[1, 1, 1]"})
    EXPECT_THAT(
        fault([&] { token_example(row(R"({"input_ids": [1, 2], "attention_mask": )" + std::string(mask) + "}")); }),
        HasSubstr("attention_mask is not 1 for each of 2 tokens"));
}

}  // namespace
}  // namespace ft
