#include "engine/data/row_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "tests/thrown.h"

namespace ft {
namespace {

using ::testing::HasSubstr;

Value row_of(const std::string& json) {
  Value row = parse_json(json, "x.jsonl", {.origins = false});
  row.origin = {"x.jsonl", 3};
  return row;
}

FieldNames names_of(const std::string& json) { return field_names(parse_json(json, "plan")); }

std::string told(const std::string& row, const std::string& split) {
  return write_json(with_known_names(row_of(row), names_of(split)));
}

TEST(RowFields, RowsStayAsTheyAreWhereNothingIsTold) {
  EXPECT_EQ(told(R"({"conversations": [{"from": "human", "value": "a"}]})", "{}"),
            R"({"conversations": [{"from": "human", "value": "a"}]})");
}

TEST(RowFields, ConversationsMayHaveNamesOfTheirOwn) {
  EXPECT_EQ(
      told(R"({"dialog": [{"speaker": "me", "says": "a", "learn": false}, {"speaker": "bot", "says": "b", "x": 1}],
                     "functions": [1], "id": 4})",
           R"({"field_messages": "dialog", "message_field_role": "speaker", "message_field_content": "says",
                     "message_field_training": "learn", "field_tools": "functions",
                     "roles": {"user": ["me"], "assistant": ["bot", "gpt"]}})"),
      R"({"tools": [1], "id": 4, "messages": [{"role": "user", "content": "a", "train": false}, )"
      R"({"role": "assistant", "content": "b", "x": 1}]})");
  // what is not told is looked for under the names that are known
  EXPECT_EQ(told(R"({"conversations": [{"from": "Nutzer", "value": "a"}]})", R"({"roles": {"user": ["Nutzer"]}})"),
            R"({"messages": [{"role": "user", "content": "a"}]})");
}

TEST(RowFields, WhatIsMissingIsNamedWithTheRow) {
  EXPECT_THAT(test::refusal([] { told(R"({"talk": [], "id": 1})", R"({"field_messages": "dialog"})"); }),
              HasSubstr("x.jsonl:3: no field 'dialog'; there are: talk, id"));
  EXPECT_THAT(
      test::refusal([] { told(R"({"messages": [{"role": "user"}]})", R"({"message_field_content": "says"})"); }),
      HasSubstr("x.jsonl:3: no field 'says'; there are: role"));
  EXPECT_THAT(test::refusal([] { told(R"({"messages": "a"})", R"({"message_field_role": "r"})"); }),
              HasSubstr("want a list"));
  EXPECT_THAT(test::refusal([] { names_of(R"({"roles": {"user": "human"}})"); }),
              HasSubstr("roles.user: got 'human', want a list"));
}

std::string prompt(const std::string& row, const std::string& split) {
  const std::vector<Segment> made = instruction_segments(row_of(row), names_of(split));
  EXPECT_EQ(made.size(), 2u);
  EXPECT_FALSE(made[0].train);
  EXPECT_TRUE(made[1].train);
  return made[0].text + "|" + made[1].text;
}

TEST(RowFields, NullIsNoTextToLearn) {
  const std::string full = prompt(R"({"instruction": "q", "output": "a"})", "{}");
  EXPECT_EQ(prompt(R"({"instruction": null, "question": "q", "input": null, "output": null, "answer": "a"})", "{}"),
            full);
  EXPECT_THAT(test::refusal([] { prompt(R"({"instruction": "q", "output": null})", "{}"); }),
              HasSubstr("x.jsonl:3: 'output' is null, want text"));
  EXPECT_THAT(
      test::refusal([] { prompt(R"({"question": null, "output": "a"})", R"({"field_instruction": "question"})"); }),
      HasSubstr("'question' is null, want text"));
  EXPECT_EQ(told(R"({"conversations": [{"role": null, "content": null, "from": "user", "value": "v"}]})",
                 R"({"roles": {"user": ["human"]}})"),
            told(R"({"conversations": [{"from": "user", "value": "v"}]})", R"({"roles": {"user": ["human"]}})"));
}

TEST(RowFields, InstructionsHaveManyNames) {
  const std::string alpaca = prompt(R"({"instruction": "q", "output": "a"})", "{}");
  EXPECT_THAT(alpaca, HasSubstr("### Instruction:\nq\n\n### Response:|a"));
  EXPECT_EQ(prompt(R"({"question": "q", "answer": "a"})", "{}"), alpaca);
  EXPECT_EQ(prompt(R"({"prompt": "q", "completion": "a"})", "{}"), alpaca);
  EXPECT_EQ(prompt(R"({"frage": "q", "antwort": "a"})", R"({"field_instruction": "frage", "field_output": "antwort"})"),
            alpaca);
  EXPECT_THAT(
      prompt(R"({"question": "q", "answer": "a", "ctx": "c"})", R"({"field_input": "ctx", "system_prompt": "S"})"),
      HasSubstr("S\n\n### Instruction:\nq\n\n### Input:\nc"));
}

TEST(RowFields, FormatsMayNameAnyField) {
  const std::string split = R"({"kind": "alpaca", "format": "[{topic}] {system}{{x}} {instruction} <{input}>: ",
                                "no_input_format": "{instruction}: "})";
  EXPECT_EQ(prompt(R"({"instruction": "q {input}", "input": "i", "output": "a", "topic": 7})", split),
            "[7] {x} q {input} <i>:| a");
  EXPECT_EQ(prompt(R"({"instruction": "q", "output": "a"})", split), "q:| a");
  EXPECT_THAT(test::refusal([&] { prompt(R"({"instruction": "q", "input": "i", "output": "a"})", split); }),
              HasSubstr("x.jsonl:3: no field 'topic'"));
  EXPECT_THAT(test::refusal([] {
                prompt(R"({"instruction": "q", "output": "a"})", R"({"kind": "alpaca", "format": "{instruction"})");
              }),
              HasSubstr("a { that is not closed"));
  EXPECT_THAT(test::refusal([] { prompt(R"({"instruction": ["q"], "output": "a"})", "{}"); }), HasSubstr("want text"));
}

TEST(RowFields, SegmentsSayWhatIsLearned) {
  const std::vector<Segment> made =
      stated_segments(row_of(R"({"segments": [{"label": false, "text": "<s>a"}, {"label": true, "text": "b"}]})"));
  ASSERT_EQ(made.size(), 2u);
  EXPECT_EQ(made[0].text, "<s>a");
  EXPECT_FALSE(made[0].train);
  EXPECT_TRUE(made[1].train);
  EXPECT_THAT(test::refusal([] { stated_segments(row_of(R"({"segments": []})")); }), HasSubstr("x.jsonl:3"));
  EXPECT_THAT(test::refusal([] { stated_segments(row_of(R"({"segments": [{"label": 1, "text": "a"}]})")); }),
              HasSubstr("want {\"label\": true or false"));
  EXPECT_EQ(detect_form(row_of(R"({"segments": []})")), RowForm::segments);
}

}  // namespace
}  // namespace ft
