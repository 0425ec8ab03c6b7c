#include "engine/formats/json.h"

#include <cmath>
#include <limits>

#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

Value parse(const std::string& text) { return parse_json(text, "x.json"); }

TEST(Json, ReadsEveryKindInOrder) {
  const Value value = parse(
      "\xEF\xBB\xBF{\"z\": [1, -2.5, 1e3, true, false, null], \"a\": {\"é\\u00e9\\ud83d\\ude00\": \"\\n\\\"\"}}\n");
  ASSERT_EQ(value.as_map().size(), 2u);
  EXPECT_EQ(value.as_map()[0].first, "z");
  EXPECT_EQ(value.at("z"), Value::list({1, -2.5, 1000.0, true, false, Value()}));
  EXPECT_TRUE(value.at("z").as_list()[0].is_integer());
  EXPECT_EQ(value.at("z").as_list()[2].kind(), Value::Kind::number);
  EXPECT_EQ(value.at("a").at("éé😀").as_string(), "\n\"");
}

TEST(Json, KeepsIntegersWholeAndTurnsLargerOnesIntoNumbers) {
  EXPECT_EQ(parse("9223372036854775807").as_integer(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(parse("-9223372036854775808").as_integer(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(parse("1000000000000000019884624838656").as_number(), 1e30);
  EXPECT_TRUE(std::isinf(parse("1e999").as_number()));
  EXPECT_TRUE(std::isinf(parse("-Infinity").as_number()));
  EXPECT_TRUE(std::isnan(parse("[NaN]").as_list()[0].as_number()));
}

TEST(Json, RemembersLines) {
  const Value value = parse("{\n\n \"a\":\n 1}");
  EXPECT_EQ(value.at("a").origin.str(), "x.json:4");
  EXPECT_EQ(parse_json("1", "x.json", {.origins = false}).origin.str(), "");
  EXPECT_ERROR(parse_json("{\"a\" 1}", "rows.jsonl", {.first_line = 17}), format, "rows.jsonl:17: got '1', want ':'");
}

TEST(Json, LastOfDuplicateKeysCountsUnlessRefused) {
  const std::string text = "{\"a\": 1, \"b\": 2,\n\"a\": 3}";
  EXPECT_EQ(parse(text), Value::map({{"a", 3}, {"b", 2}}));
  EXPECT_ERROR(parse_json(text, "x.json", {.refuse_duplicates = true}), format, "x.json:2: key 'a' stands twice");
}

TEST(Json, RefusesWhatIsNotJson) {
  EXPECT_ERROR(parse(""), format, "x.json:1: is empty");
  EXPECT_ERROR(parse("{\"a\": 1,}"), format, "want a key in double quotes");
  EXPECT_ERROR(parse("[1 2]"), format, "got '2', want ','");
  EXPECT_ERROR(parse("[1,\n2"), format, "x.json:2: got the end of the text");
  EXPECT_ERROR(parse("{} {}"), format, "after the end");
  EXPECT_ERROR(parse("tru"), format, "got 'tru', want a value");
  EXPECT_ERROR(parse("{'a': 1}"), format, "want a key in double quotes");
  EXPECT_ERROR(parse("01"), format, "leading zero");
  EXPECT_ERROR(parse("1."), format, "want a digit");
  EXPECT_ERROR(parse("-"), format, "want a digit");
  EXPECT_ERROR(parse("\"a\nb\""), format, "control character");
  EXPECT_ERROR(parse("\"abc"), format, "ends inside a string");
  EXPECT_ERROR(parse("\"\\q\""), format, "escape \\q");
  EXPECT_ERROR(parse("\"\\u12\""), format, "four hex digits");
  EXPECT_ERROR(parse("\"\\ud800x\""), format, "surrogate");
  EXPECT_ERROR(parse(std::string(1000, '[')), format, "nested deeper");
}

TEST(Json, RefusesBytesThatAreNotUtf8) {
  for (const char* bytes : {"\xff", "\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"})
    EXPECT_ERROR(parse(std::string("\"") + bytes + "\""), format, "is not UTF-8");
  EXPECT_EQ(parse("\"\xf4\x8f\xbf\xbf\x7f\"").as_string(), "\xf4\x8f\xbf\xbf\x7f");
}

// The texts are what Python's json.dumps(ensure_ascii=False) and json.dumps(indent=2) give.
TEST(Json, WritesAsPythonDoes) {
  const Value value = Value::map({{"a", Value::list({1, 10000.0, 1e-06, 0.1, 1e22})},
                                  {"b", "é\"\\\n\x01"},
                                  {"c", Value::map()},
                                  {"d", Value::list()}});
  EXPECT_EQ(write_json(value),
            "{\"a\": [1, 10000.0, 1e-06, 0.1, 1e+22], \"b\": \"é\\\"\\\\\\n\\u0001\", \"c\": {}, \"d\": []}");
  EXPECT_EQ(write_json(Value::map({{"a", Value::list({1, Value()})}, {"b", true}}), 2),
            "{\n  \"a\": [\n    1,\n    null\n  ],\n  \"b\": true\n}");
}

TEST(Json, RoundTripsToTheBit) {
  for (const double number : {0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, -0.0, 123456789012345680.0}) {
    EXPECT_EQ(std::signbit(parse(write_json(number)).as_number()), std::signbit(number));
    EXPECT_EQ(parse(write_json(number)).as_number(), number);
  }
  EXPECT_EQ(parse(write_json(2.0)).kind(), Value::Kind::number);
}

TEST(Json, NamesTheFileThatCannotBeRead) {
  const test::TemporaryDirectory directory;
  EXPECT_ERROR(read_json(directory / "absent.json"), io, "absent.json: cannot open: No such file");
  test::spill(directory / "a.json", "{\"a\": \n}");
  EXPECT_ERROR(read_json(directory / "a.json"), format, "a.json:2: ");
}

}  // namespace
}  // namespace ft
