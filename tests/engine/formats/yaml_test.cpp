#include "engine/formats/yaml.h"

#include <cmath>

#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

Value parse(const std::string& text) { return parse_yaml(text, "x.yaml"); }

TEST(Yaml, ReadsScalarsOfTheCoreSchema) {
  const Value value = parse(R"(
integers: [1, -2, +3, 0x1F, 0o17, 007]
numbers: [2e-4, 1.5, .5, 1., -1E3, .inf, -.inf]
words: [yes, on, "true", '12', 1.2.3, 1e, e3, -, 12 monkeys, 0x, 1_000]
booleans: [true, False]
nothing: [null, ~, ""]
empty:
)");
  EXPECT_EQ(value.at("integers"), Value::list({1, -2, 3, 31, 15, 7}));
  for (const Value& number : value.at("numbers").as_list()) EXPECT_EQ(number.kind(), Value::Kind::number);
  EXPECT_EQ(value.at("numbers").as_list()[0].as_number(), 2e-4);
  EXPECT_EQ(value.at("numbers").as_list()[6].as_number(), -INFINITY);
  for (const Value& word : value.at("words").as_list()) EXPECT_TRUE(word.is_string()) << describe(word);
  EXPECT_EQ(value.at("booleans"), Value::list({true, false}));
  EXPECT_EQ(value.at("nothing"), Value::list({Value(), Value(), ""}));
  EXPECT_TRUE(value.at("empty").is_null());
}

TEST(Yaml, RemembersLinesOfEveryValue) {
  const Value value = parse("a: 1\nb:\n  c: x\n  d:\n  e:\n    - 1\n    - 2\n");
  EXPECT_EQ(value.at("a").origin.str(), "x.yaml:1");
  EXPECT_EQ(value.at("b").at("c").origin.str(), "x.yaml:3");
  EXPECT_EQ(value.at("b").at("d").origin.line, 4);
  EXPECT_EQ(value.at("b").origin.line, 2);
  EXPECT_EQ(value.at("b").at("e").origin.line, 5);
  EXPECT_EQ(value.at("b").at("e").as_list()[1].origin.str(), "x.yaml:7");
}

TEST(Yaml, ExpandsAliases) {
  const Value value = parse("a: &x {r: 1}\nb: *x\n");
  EXPECT_EQ(value.at("b"), value.at("a"));
}

TEST(Yaml, AnEmptyTextIsNull) {
  EXPECT_TRUE(parse("").is_null());
  EXPECT_TRUE(parse("# a comment\n").is_null());
}

TEST(Yaml, RefusesWhatItDoesNotRead) {
  EXPECT_ERROR(parse("a: 1\nb: [1, 2\nc: 3\n"), format, "x.yaml:");
  EXPECT_ERROR(parse("a: 1\nb: 2\na: 3\n"), format, "x.yaml:3: key 'a' stands twice");
  EXPECT_ERROR(parse("a: 1\n---\nb: 2\n"), format, "x.yaml:2: got more than one YAML document");
  EXPECT_ERROR(parse("a: !!python/object:os.system x\n"), format, "x.yaml:1: got the tag");
  EXPECT_ERROR(parse("a: &x {r: 1}\nb:\n  <<: *x\n"), format, "x.yaml:3: merge keys");
  EXPECT_ERROR(parse(", \"y\", 2: 1\n"), format, "x.yaml:1: ");
  EXPECT_ERROR(parse("[1, 2]: 3\n"), format, "no scalar");
  EXPECT_ERROR(parse("a: 1\n b: 2\n"), format, "x.yaml:2: is not YAML");
  EXPECT_ERROR(parse("a: 1\nb:\n\tc: 2\n"), format, "x.yaml:3: is not YAML");
  EXPECT_ERROR(parse("a: 1\nb:\n\tc: 2\n"), format, "help: indent by spaces");
  EXPECT_ERROR(parse("a: 1\nb: &x\n  - 1\n  - [*x]\n"), format, "x.yaml:");
  EXPECT_ERROR(parse("a: 1\nb: &x\n  - 1\n  - [*x]\n"), format, "nested deeper than");
  EXPECT_ERROR(parse("a: *nobody\n"), format, "x.yaml:1: is not YAML");
  EXPECT_ERROR(parse(std::string("a: 1\nb: 2\0c\n", 12)), format, "x.yaml:2: holds a NUL byte");
}

TEST(Yaml, RefusesAliasesThatGrowWithoutBound) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string before = "*a" + std::to_string(i - 1), name = "a" + std::to_string(i);
    text += name + ": &" + name + " [" + before;
    for (int k = 1; k < 10; ++k) text += ", " + before;
    text += "]\n";
  }
  EXPECT_ERROR(parse(text), format, "a million values");
}

TEST(Yaml, RefusesMoreThanAConfigurationCanBe) {
  std::string text;
  for (int i = 0; text.size() < 10'000'000; ++i) text += "key" + std::to_string(i) + ": value\n";
  EXPECT_ERROR(parse(text), format, "is longer than 4 MiB (10000");
  EXPECT_ERROR(parse(text), format, "x.yaml:253260: ");
}

TEST(Yaml, NamesTheFileThatCannotBeRead) {
  const test::TemporaryDirectory directory;
  EXPECT_ERROR(read_yaml(directory / "absent.yaml"), io, "absent.yaml: cannot open");
}

}  // namespace
}  // namespace ft
