// Which tokens of a conversation are learned.
#include "engine/data/chat_labels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "engine/data/token_rows.h"
#include "engine/error/error.h"
#include "engine/formats/json.h"
#include "engine/text/tokenizer.h"

namespace ft {
namespace {

using ::testing::HasSubstr;

std::string demo_model() { return std::string(FT_GOLDEN_DIR) + "/../../recipes/demo/model"; }

const Tokenizer& tokenizer() {
  static const auto loaded = Tokenizer::load(demo_model());
  return *loaded;
}

constexpr const char* kChatml =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
constexpr const char* kTalk =
    R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})";

ChatChoice with(void (*change)(ChatChoice&)) {
  ChatChoice out;
  change(out);
  return out;
}

/// What is learned, one bracket a range.
std::string trained(const std::string& source, const std::string& row, const ChatChoice& choice = {}) {
  const ChatText made = chat_text(ChatTemplate(source, "test"), tokenizer(), parse_json(row, "row.jsonl"), choice);
  std::string out;
  for (const TextRange& range : made.trained) out += "[" + made.text.substr(range.begin, range.end - range.begin) + "]";
  return out;
}

std::string refusal(const std::string& source, const std::string& row, const ChatChoice& choice = {}) {
  try {
    return "learned " + trained(source, row, choice);
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(ChatLabels, AreTransformersAssistantMaskWhereTheTemplateMarksIt) {
  std::ifstream stream(std::string(FT_GOLDEN_DIR) + "/template/masks.jsonl");
  int rows = 0;
  for (std::string line; std::getline(stream, line); ++rows) {
    const Value gold = parse_json(line, "masks.jsonl");
    const ChatTemplate chat(gold.at("template").as_string(), "test");
    const ChatTokens made = chat_tokens(chat, tokenizer(), Value::map({{"messages", gold.at("messages")}}), {});
    ASSERT_EQ(made.ids.size(), gold.at("ids").as_list().size());
    for (size_t i = 0; i < made.ids.size(); ++i) {
      EXPECT_EQ(made.ids[i], gold.at("ids").as_list()[i].as_integer());
      EXPECT_EQ(made.labels[i] != kIgnoreLabel, gold.at("mask").as_list()[i].as_integer() == 1)
          << line << " token " << i;
    }
  }
  EXPECT_EQ(rows, 4);
}

TEST(ChatLabels, AreTheAssistantsTurnsWithoutTheirHeadAndWithTheirEnd) {
  EXPECT_EQ(trained(kChatml, kTalk), "[b<|im_end|>][d<|im_end|>]");
  // the head is printed by the user's turn
  EXPECT_EQ(
      trained("{% for m in messages %}{% if m.role == 'user' %}U: {{ m.content }}\nA: {% elif m.role == 'assistant' %}"
              "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}",
              kTalk),
      "[b<|im_end|>][d<|im_end|>]");
  // without a generation prompt: what stands before any answer is its head
  EXPECT_EQ(trained("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}", kTalk),
            "[b<|im_end|>][d<|im_end|>]");
  // the end of the last turn stands behind the loop
  EXPECT_EQ(
      trained("{% for m in messages %}{{ m.role }}: {{ m.content }}{% if not loop.last %}\n{% endif %}{% endfor %}"
              "{% if add_generation_prompt %}\nassistant: {% else %}<|im_end|>{% endif %}",
              kTalk),
      "[b][d<|im_end|>]");
}

TEST(ChatLabels, FindTheHeadBehindWhiteSpaceAndTheEndBehindTheLoop) {
  // lines of the template stand before each turn, and before the prompt other ones
  EXPECT_EQ(trained("{% for m in messages %}\n\n    <|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                    "{% if add_generation_prompt %}\n<|im_start|>assistant\n{% endif %}",
                    kTalk),
            "[b<|im_end|>][d<|im_end|>]");
  // a marked end token behind the loop is the last message's
  EXPECT_EQ(trained("{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
                    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}{% generation %}<|im_end|>"
                    "{% endgeneration %}",
                    kTalk, with([](ChatChoice& c) { c.last_turn = true; })),
            "[d][<|im_end|>]");
  // a prompt that goes on where an old turn's answer begins, without a line's end or a special token between
  EXPECT_EQ(
      trained("{% for m in messages %}{% if m.role == 'assistant' %}<A>{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
              "{% if add_generation_prompt %}<A><think>{% endif %}",
              R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<tip"}]})"),
      "[<tip<|im_end|>]");
  // a template that checks its tool results still tells what stands before any answer
  EXPECT_EQ(trained("{% for m in messages %}{% if m.role == 'tool' and not messages[loop.index0 - 1].tool_calls %}"
                    "{{ raise_exception('no call') }}{% endif %}{% if m.role == 'assistant' %}A:{{ m.content }}"
                    "{{ m.tool_calls }}<|im_end|>{% endif %}{% endfor %}",
                    R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b",
                        "tool_calls": [1]}, {"role": "tool", "content": "3"}]})"),
            "[b[1]<|im_end|>]");
}

TEST(ChatLabels, FollowTemplatesThatWriteTheLastTurnOtherwise) {
  // as Qwen3: reasoning is kept in the last turn alone, so that no prefix of the text is a shorter conversation's
  const std::string source =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n"
      "{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% if not thinks %}<think>\n\n</think>\n\n{% endif %}{% "
      "endif %}";
  EXPECT_EQ(trained(source, kTalk, with([](ChatChoice& c) {
                      c.variables = {{"thinks", true}};
                    })),
            "[b<|im_end|>][<think>\n\n</think>\n\nd<|im_end|>]");
  // a prompt that goes further than an old turn's head: the head ends where a line does
  EXPECT_EQ(
      trained(
          source,
          R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<t b"}, {"role": "user", "content": "c"}]})"),
      "[<t b<|im_end|>]");
}

TEST(ChatLabels, TakeInToolCallsAndReasoningAndLeaveOutTheirResults) {
  const std::string source =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.thinking %}<think>{{ m.thinking }}</think>{% endif "
      "%}{{ m.content or '' }}"
      "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% "
      "endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  const std::string row = R"({"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": null, "thinking": "hm", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
      {"role": "tool", "content": "3"}, {"role": "assistant", "content": "3"}]})";
  EXPECT_EQ(trained(source, row),
            "[<think>hm</think><tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call><|im_end|>][3<|im_end|>]");
  // a template that prints the results within the assistant's turn, by walking over them
  EXPECT_EQ(trained("{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>A:{{ m.content or '' }}"
                    "{% for t in messages[loop.index:] %}{% if t.role == 'tool' %}({{ t.content }}){% endif %}{% "
                    "endfor %}<|im_end|>{% endif %}{% endfor %}"
                    "{% if add_generation_prompt %}<|im_start|>A:{% endif %}",
                    R"({"messages": [{"role": "assistant", "content": "x"}, {"role": "tool", "content": "3"}]})"),
            "[x][<|im_end|>]");
}

TEST(ChatLabels, TakeWhatTheChoiceAndTheMessagesSay) {
  EXPECT_EQ(trained(kChatml, kTalk, with([](ChatChoice& c) { c.last_turn = true; })), "[d<|im_end|>]");
  EXPECT_EQ(trained(kChatml, kTalk, with([](ChatChoice& c) { c.roles = {"user"}; })), "[a<|im_end|>][c<|im_end|>]");
  EXPECT_EQ(trained(kChatml, kTalk, with([](ChatChoice& c) { c.everything = true; })).size(),
            2 + chat_text(ChatTemplate(kChatml, "t"), tokenizer(), parse_json(kTalk, "r"), {}).text.size());
  const std::string own =
      R"({"messages": [{"role": "user", "content": "a", "train": true}, {"role": "assistant", "content": "b", "weight": 0},
      {"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "weight": 1}, {"role": "assistant", "content": "e", "train": false}]})";
  EXPECT_EQ(trained(kChatml, own), "[a<|im_end|>][d<|im_end|>]");
  EXPECT_THAT(refusal(kChatml, R"({"messages": [{"role": "assistant", "content": "b", "weight": 0.5}]})"),
              HasSubstr("weight is 0.5, want 0 or 1"));
  EXPECT_EQ(chat_text(ChatTemplate(kChatml, "t"), tokenizer(), parse_json(own, "r"),
                      with([](ChatChoice& c) { c.system = "Z"; }))
                .text.substr(0, 32),
            "<|im_start|>system\nZ<|im_end|>\n<");
}

TEST(ChatLabels, AreRefusedWhereTheyCannotBeTold) {
  EXPECT_THAT(refusal("{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ m.content %}{% endfor "
                      "%}{{ ns.t }}",
                      kTalk),
              HasSubstr("does not print it in a turn of its own"));
  EXPECT_THAT(refusal("{% for m in messages %}{% if m.role == 'assistant' %}A{{ messages[loop.index0 - 1].content }}{{ "
                      "m.content }}<|im_end|>{% endif %}{% endfor %}"
                      "{% if add_generation_prompt %}A{% endif %}",
                      kTalk),
              HasSubstr("prints another message's text in its turn"));
  EXPECT_THAT(refusal(kChatml, R"({"messages": [{"role": "assistant", "content": "b", "thinking": "hm"}]})"),
              HasSubstr("it would be lost"));
  EXPECT_THAT(refusal(kChatml, R"({"messages": [{"role": "assistant", "content": "b", "tool_calls": [1]}]})"),
              HasSubstr("has 'tool_calls', which the chat template does not read"));
  EXPECT_THAT(refusal("{{ raise_exception('no') }}", kTalk), HasSubstr("TemplateError: no"));
  EXPECT_THAT(refusal("{% set x %}{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor "
                      "%}{% endset %}a{{ x }}",
                      kTalk),
              HasSubstr("{% generation %} block"));
  EXPECT_THAT(refusal("{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% "
                      "endgeneration %}{% endif %}{% endfor %}",
                      kTalk, with([](ChatChoice& c) { c.roles = {"user"}; })),
              HasSubstr("marks no tokens of it"));
  EXPECT_THAT(refusal("{% for m in messages %}*{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt "
                      "%}answer:{% endif %}",
                      kTalk),
              HasSubstr("begins an assistant's turn otherwise"));
}

}  // namespace
}  // namespace ft
