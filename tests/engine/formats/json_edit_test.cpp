// Entries of a JSON object changed in its text: all else keeps its bytes.
#include "engine/formats/json_edit.h"

#include "engine/formats/json.h"
#include "tests/thrown.h"

namespace ft {
namespace {

constexpr const char* kText =
    "{\n  \"a\": [1, {\"b\": \"}],\\\"\"}],\n  \"most\": 1000000000000000019884624838656,\n  \"b\": 1.0, \"c\":\"x\" "
    "}\n";

TEST(JsonEdit, LeavesAllElseAsItStands) {
  JsonEdit json(kText, "file");
  EXPECT_EQ(json.get("b"), Value(1.0));
  EXPECT_EQ(json.get("c"), Value("x"));
  EXPECT_TRUE(json.get("d").is_null());
  json.set("b", Value::list({2, "y"}));
  EXPECT_EQ(
      json.text(),
      "{\n  \"a\": [1, {\"b\": \"}],\\\"\"}],\n  \"most\": 1000000000000000019884624838656,\n  \"b\": [\n    2,\n    "
      "\"y\"\n  ], \"c\":\"x\" }\n");
  json.set("a", 3);
  json.set("c", Value());
  json.set("d\"", "new");
  EXPECT_EQ(parse_json(json.text(), "file"),
            Value::map({{"a", 3}, {"most", 1e30}, {"b", Value::list({2, "y"})}, {"c", Value()}, {"d\"", "new"}}));
  EXPECT_NE(json.text().find("1000000000000000019884624838656"), std::string::npos);
}

TEST(JsonEdit, BeginsWithNothing) {
  JsonEdit json("{}", "file");
  json.set("a", true);
  json.set("b", Value::map({{"c", 1}}));
  EXPECT_EQ(json.text(), "{\n  \"a\": true,\n  \"b\": {\n    \"c\": 1\n  }\n}");
}

TEST(JsonEdit, ChangesTheEntryThatCounts) {
  JsonEdit json("{\"a\": 1, \"a\": 2}", "file");
  EXPECT_EQ(json.get("a"), Value(2));
  json.set("a", 3);
  EXPECT_EQ(parse_json(json.text(), "file").at("a"), Value(3));
}

TEST(JsonEdit, RefusesWhatIsNoObject) {
  for (const char* text : {"", "[1]", "{\"a\" 1}", "{\"a\": 1", "{\"a\": \"x}", "{a: 1}", "{\"a\": [1}"}) {
    SCOPED_TRACE(text);
    EXPECT_ERROR(JsonEdit(text, "file"), format, "file: is not a JSON object");
  }
}

}  // namespace
}  // namespace ft
