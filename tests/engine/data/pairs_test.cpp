#include <gtest/gtest.h>

#include "engine/data/row_fields.h"
#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "tests/thrown.h"

namespace ft {
namespace {

Value json(const std::string& text) { return parse_json(text, "rows.jsonl"); }

Value pair(const std::string& row, const std::string& split) {
  return with_known_pair(json(row), pair_names(json(split)));
}

const char* kIntel = R"({"prompt_format": "<s>{system}</s><u>{prompt}</u><a>", "no_system_format": "<u>{prompt}</u><a>",
  "chosen_format": "{chosen}</a>", "rejected_format": "{rejected}</a>", "field_prompt": "question"})";

TEST(Pairs, StayAsTheyAreWithoutNames) {
  const char* texts = R"({"prompt": "p", "chosen": "c", "rejected": "r"})";
  EXPECT_EQ(pair(texts, "{}"), json(texts));
  const char* tokens = R"({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]})";
  EXPECT_EQ(pair(tokens, kIntel), json(tokens));
}

TEST(Pairs, AreWrittenByFormats) {
  const char* row = R"({"system": "S", "question": "p", "chosen": "c", "rejected": "r"})";
  EXPECT_EQ(pair(row, kIntel).at("prompt").as_string(), "<s>S</s><u>p</u><a>");
  EXPECT_EQ(pair(row, kIntel).at("chosen").as_string(), "c</a>");
  EXPECT_EQ(pair(row, kIntel).at("rejected").as_string(), "r</a>");
  EXPECT_EQ(pair(R"({"system": "", "question": "p", "chosen": "c", "rejected": "r"})", kIntel).at("prompt").as_string(),
            "<u>p</u><a>");
}

TEST(Pairs, OfFormatsTakeTheTextOfMessages) {
  const char* split =
      R"({"prompt_format": "<u>{prompt}</u><a>", "chosen_format": "{chosen}</a>", "prompt_within": true})";
  const Value made =
      pair(R"({"prompt": "another", "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}],
    "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]})",
           split);
  EXPECT_EQ(made.at("prompt").as_string(), "<u>p</u><a>");
  EXPECT_EQ(made.at("chosen").as_string(), "c</a>");
  EXPECT_EQ(made.at("rejected").as_string(), "r");
}

TEST(Pairs, OfMessagesHaveFieldsAndRolesOfOtherNames) {
  const Value made = pair(R"({"conversation": [{"from": "human", "value": "p"}], "good": {"from": "bot", "value": "c"},
    "bad": [{"from": "bot", "value": "r"}]})",
                          R"({"field_prompt": "conversation", "field_chosen": "good", "field_rejected": "bad",
    "message_field_role": "from", "message_field_content": "value", "roles": {"user": ["human"], "assistant": ["bot"]}})");
  EXPECT_EQ(made.at("prompt"), json(R"([{"role": "user", "content": "p"}])"));
  EXPECT_EQ(made.at("chosen"), json(R"([{"role": "assistant", "content": "c"}])"));
  EXPECT_EQ(made.at("rejected"), json(R"([{"role": "assistant", "content": "r"}])"));
}

TEST(Pairs, OfTextsAreTurnsWhereThatIsSaid) {
  const Value made = pair(R"({"prompt": "p", "chosen": "c",
    "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]})",
                          R"({"as_messages": true})");
  EXPECT_EQ(made.at("prompt"), json(R"([{"role": "user", "content": "p"}])"));
  EXPECT_EQ(made.at("chosen"), json(R"([{"role": "assistant", "content": "c"}])"));
  EXPECT_EQ(made.at("rejected"), json(R"([{"role": "assistant", "content": "r"}])"));
}

TEST(Pairs, FindTheNamesThatPromptsHave) {
  const char* split =
      R"({"prompt_format": "<{prompt}>", "chosen_format": "{chosen}.", "rejected_format": "{rejected}."})";
  const char* row = R"({"instruction": "p", "chosen_response": "c", "rejected_response": "r"})";
  EXPECT_EQ(pair(row, split), json(R"({"prompt": "<p>", "chosen": "c.", "rejected": "r."})"));
}

TEST(Pairs, NameWhatARowLacks) {
  EXPECT_EQ(test::thrown([] { pair(R"({"question": "p", "chosen": "c"})", kIntel); }).message(),
            "no field 'rejected'; there are: question, chosen");
  EXPECT_EQ(test::thrown([] { pair(R"({"question": "p", "chosen": "c", "rejected": null})", kIntel); }).message(),
            "'rejected' is null, want text");
}

}  // namespace
}  // namespace ft
