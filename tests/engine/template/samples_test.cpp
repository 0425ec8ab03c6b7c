// Templates of public models against what transformers made of the same conversations. The folder is named by
// FTENGINE_SAMPLES and is not part of the repository.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/template/chat_template.h"
#include "tests/gunzip.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

/// The row that a line of the expected results was made from.
Value row_of(const Value& conversation, const Value& expected) {
  Value row = Value::map({{"messages", conversation.at("messages")},
                          {"add_generation_prompt", expected.at("agp")},
                          {"now", "2024-07-26 12:34:56"}});
  for (const char* name : {"tools", "documents"})
    if (const Value* given = conversation.find(name)) row.set(name, *given);
  for (const Value* vars : {conversation.find("vars"), expected.find("vars")})
    if (vars && vars->is_map())
      for (const auto& [name, value] : vars->as_map()) row.set(name, value);
  return row;
}

int64_t characters(std::string_view text, size_t end) {
  int64_t count = 0;
  for (size_t i = 0; i < end; ++i) count += (text[i] & 0xC0) != 0x80;
  return count;
}

void check_row(const ChatTemplate& chat, const Value& row, const Value& expected) {
  const Rendered got = chat.render(row);
  if (const Value* error = expected.find("error")) {
    ASSERT_TRUE(got.error);
    EXPECT_EQ(got.error->type, error->as_string());
    EXPECT_EQ(got.error->message, expected.at("message").as_string());
    return;
  }
  ASSERT_FALSE(got.error) << got.error->type << ": " << got.error->message;
  EXPECT_EQ(got.text, expected.at("output").as_string());
  const Value* spans = expected.find("spans");
  if (!spans) return;
  ASSERT_EQ(got.generations.size(), spans->as_list().size());
  for (size_t k = 0; k < got.generations.size(); ++k) {
    EXPECT_EQ(characters(got.text, got.generations[k].begin), spans->as_list()[k].as_list()[0].as_integer());
    EXPECT_EQ(characters(got.text, got.generations[k].end), spans->as_list()[k].as_list()[1].as_integer());
  }
}

TEST(TemplateSamples, RenderAsTransformersRendersThem) {
  const char* folder = std::getenv("FTENGINE_SAMPLES");
  if (!folder) GTEST_SKIP() << "FTENGINE_SAMPLES is not set";
  const fs::path samples = fs::path(folder) / "chat_templates";
  const Value index = read_json(samples / "index.json"), conversations = read_json(samples / "cases.json");
  std::map<std::string, const Value*> by_name;
  for (const Value& conversation : conversations.as_list())
    by_name[conversation.at("case").as_string()] = &conversation;
  int rows = 0;
  for (const Value& entry : index.as_list()) {
    const std::string name = entry.at("name").as_string();
    const ChatTemplate chat(read_text(samples / entry.at("file").as_string()), name, entry.at("tokens_used").as_map());
    const std::string gold = test::gunzip(samples / "gold" / (name + ".jsonl.gz"));
    for (size_t at = 0; at < gold.size(); ++rows) {
      const size_t end = gold.find('\n', at);
      const Value expected = parse_json(std::string_view(gold).substr(at, end - at), name);
      at = end + 1;
      SCOPED_TRACE(name + " " + expected.at("case").as_string());
      check_row(chat, row_of(*by_name.at(expected.at("case").as_string()), expected), expected);
    }
  }
  EXPECT_GT(rows, 1000);
}

}  // namespace
}  // namespace ft
