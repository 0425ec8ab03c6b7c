// Templates written here, and what transformers makes of them: tests/golden/template.py.
#include "engine/template/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iostream>

#include "engine/formats/json.h"

namespace ft {
namespace {

std::vector<Value> rows_of(const std::string& file) {
  std::ifstream stream(file);
  std::vector<Value> rows;
  for (std::string line; std::getline(stream, line);) rows.push_back(parse_json(line, file));
  return rows;
}

int64_t characters(std::string_view text, size_t end) {
  int64_t count = 0;
  for (size_t i = 0; i < end && i < text.size(); ++i) count += (text[i] & 0xC0) != 0x80;
  return count;
}

Rendered render(const std::string& source, const std::string& row = R"({"messages": []})", RenderLimits limits = {}) {
  return ChatTemplate(source, "test").render(parse_json(row, "row"), limits);
}

/// @param wanted a row of template.py's cases.jsonl
void compare(const Rendered& got, const Value& wanted) {
  if (const Value* error = wanted.find("error")) {
    ASSERT_TRUE(got.error) << "rendered " << got.text;
    EXPECT_EQ(got.error->type, error->as_string()) << got.error->message;
    // Python words a wrong call of a function by the function; what templates and data are told is the same
    if (error->as_string() == "TemplateError" || error->as_string() == "UndefinedError" ||
        error->as_string() == "SecurityError") {
      if (wanted.at("message").as_string().find("positional argument") == std::string::npos) {
        EXPECT_EQ(got.error->message, wanted.at("message").as_string());
      }
    }
    return;
  }
  ASSERT_FALSE(got.error) << got.error->type << ": " << got.error->message;
  EXPECT_EQ(got.text, wanted.at("text").as_string());
  const Value::List& spans = wanted.at("spans").as_list();
  ASSERT_EQ(got.generations.size(), spans.size());
  for (size_t k = 0; k < spans.size(); ++k) {
    EXPECT_EQ(characters(got.text, got.generations[k].begin), spans[k].as_list()[0].as_integer());
    EXPECT_EQ(characters(got.text, got.generations[k].end), spans[k].as_list()[1].as_integer());
  }
}

TEST(ChatTemplate, RendersAndRefusesAsTransformersDoes) {
  const std::vector<Value> rows = rows_of(std::string(FT_GOLDEN_DIR) + "/template/cases.jsonl");
  ASSERT_GT(rows.size(), 250u);
  Value row = rows[0].at("row");
  row.set("now", "2024-07-26 12:34:56");
  for (size_t i = 1; i < rows.size(); ++i) {
    const std::string source = rows[i].at("template").as_string();
    SCOPED_TRACE(source);
    compare(ChatTemplate(source, "test").render(row), rows[i]);
  }
}

// Templates of tests/golden/template_random.py. A few may differ by what jinja2's folding of constants makes of errors.
TEST(TemplateFuzz, RendersAndRefusesAsTransformersDoes) {
  const char* file = std::getenv("FTENGINE_TEMPLATE_FUZZ");
  if (!file) GTEST_SKIP() << "FTENGINE_TEMPLATE_FUZZ is not set";
  const std::vector<Value> rows = rows_of(file);
  Value row = rows.at(0).at("row");
  row.set("now", "2024-07-26 12:34:56");
  size_t refused = 0;
  for (size_t i = 1; i < rows.size(); ++i) {
    const std::string source = rows[i].at("template").as_string();
    SCOPED_TRACE(source);
    const Rendered got = ChatTemplate(source, "test").render(row);
    if (got.error && got.error->message.find("this engine") != std::string::npos)
      ++refused;
    else
      compare(got, rows[i]);
  }
  std::cout << rows.size() - 1 << " templates, " << refused << " refused by name\n";
}

TEST(ChatTemplate, RefusesByNameWhatNoModelsTemplateHas) {
  const std::pair<const char*, const char*> sources[] = {
      {"{% include 'a' %}", "tag 'include' is not supported"},
      {"{% extends 'a' %}", "tag 'extends' is not supported"},
      {"{% import 'a' as b %}", "tag 'import' is not supported"},
      {"{% from 'a' import b %}", "tag 'from' is not supported"},
      {"{% block a %}x{% endblock %}", "tag 'block' is not supported"},
      {"{% autoescape true %}{% endautoescape %}", "tag 'autoescape' is not supported"},
      {"{{ cycler('a', 'b').next() }}", "cycler, joiner and lipsum are not supported"}};
  for (const auto& [source, message] : sources) {
    const Rendered got = render(source);
    ASSERT_TRUE(got.error) << source;
    EXPECT_THAT(got.error->message, ::testing::HasSubstr(message)) << source;
  }
}

TEST(ChatTemplate, SaysWhichMessageEachPieceOfTheTextBelongsTo) {
  const std::string messages =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
  const auto pieces = [&](const std::string& source) {
    const Rendered got = render(source, messages);
    EXPECT_FALSE(got.error);
    std::string out;
    for (const MessagePiece& piece : got.pieces)
      out += std::to_string(piece.message) + ":" + got.text.substr(piece.begin, piece.end - piece.begin) + "|";
    return out;
  };
  EXPECT_EQ(pieces("<s>{% for m in messages %}[{{ m.content }}]{% endfor %}</s>"), "-1:<s>|0:[a]|1:[b]|-1:</s>|");
  EXPECT_EQ(pieces("{% for m in messages[1:] %}{{ m.content }}{% endfor %}"), "1:b|");
  EXPECT_EQ(pieces("{% for i in range(2) %}{% set m = messages[i] %}{{ m.content }}.{% endfor %}"), "0:a.|1:b.|");
  EXPECT_EQ(
      pieces("{% for m in messages %}{% for n in messages[loop.index:] %}{{ n.content }}{% endfor %}!{% endfor %}"),
      "1:b|0:!|1:!|");
  EXPECT_EQ(pieces("{% macro p(m) %}{{ m.content }}{% endmacro %}{% for m in messages %}{{ p(m) }}{% endfor %}"),
            "0:a|1:b|");
}

TEST(ChatTemplate, KnowsWhereAGenerationBlockDoesNotStandWhereItIsCounted) {
  EXPECT_TRUE(render("ab{% generation %}cd{% endgeneration %}e").generations_exact);
  EXPECT_FALSE(render("{% set x %}{% generation %}cd{% endgeneration %}{% endset %}ab{{ x }}").generations_exact);
}

TEST(ChatTemplate, BoundsStepsTextAndNesting) {
  const auto type = [](const Rendered& got) { return got.error ? got.error->type : "none: " + got.text.substr(0, 50); };
  RenderLimits small{100'000, 10'000'000};
  EXPECT_EQ(type(render("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
                        R"({"messages": []})", small)),
            "TimeoutError");
  const char* const kLarge[] = {
      "{{ 'x' * 999999999999 }}",
      "{{ [1] * 999999999999 }}",
      "{{ 'x'.center(999999999999) }}",
      "{{ ['x'] | batch(999999999999, 1) | list }}",
      "{{ 'a' | indent(999999999999) }}",
      "{{ [1] | tojson(indent=999999999999) }}",
      "{{ ('a' * 3000000).replace('a', 'b' * 3000000) }}",
      "{% set ns = namespace(t='x') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
      "{% set ns = namespace(t=[1]) %}{% for i in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
      "{{ [1, 2] | slice(999999999999) | list }}"};
  for (const char* source : kLarge)
    EXPECT_EQ(type(render(source, R"({"messages": []})", small)), "MemoryError") << source;
  EXPECT_EQ(
      type(render(
          "{% set ns = namespace(t=[]) %}{% for i in range(999) %}{% set ns.t = [ns.t] %}{% endfor %}{{ ns.t }}")),
      "RecursionError");
  EXPECT_EQ(
      type(render(
          "{% set ns = namespace(t=[1]) %}{% for i in range(100) %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.t }}",
          R"({"messages": []})", small)),
      "TimeoutError");
  EXPECT_EQ(type(render("{% set a = namespace() %}{% set a.a = a %}{{ a }}")), "RecursionError");
  EXPECT_EQ(type(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")), "RecursionError");
  for (const char* piece : {"(", "[", "-", "not ", "{% if 1 %}", "{{ 1 }}{% for x in y %}"}) {
    std::string source = piece[0] == '{' ? "" : "{{ ";
    for (int i = 0; i < 100'000; ++i) source += piece;
    EXPECT_TRUE(render(source).error) << piece;
  }
  std::string sum = "{{ 1";
  for (int i = 0; i < 100'000; ++i) sum += " + 1";
  EXPECT_EQ(type(render(sum + " }}")), "RecursionError");
  EXPECT_EQ(type(render("{{ '%9999999999d' % 1 }}")), "ValueError");
}

TEST(ChatTemplate, TakesWhatTheRowBringsOverItsOwnTokens) {
  const ChatTemplate with_tokens("{{ bos_token }}{{ eos_token }}{{ thinking }}", "test",
                                 {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  EXPECT_EQ(with_tokens.render(parse_json(R"({"messages": [], "eos_token": "X", "thinking": true})", "row")).text,
            "<s>XTrue");
  EXPECT_EQ(with_tokens.render(parse_json(R"({"messages": [5]})", "row")).error->type, "TypeError");
  EXPECT_EQ(with_tokens.render(parse_json("{}", "row")).error->type, "TypeError");
}

}  // namespace
}  // namespace ft
