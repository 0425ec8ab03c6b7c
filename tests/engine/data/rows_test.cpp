#include "engine/data/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "engine/error/error.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using ::testing::EndsWith;
using ::testing::HasSubstr;

class RowsTest : public ::testing::Test {
 protected:
  fs::path write(const std::string& text) const { return test::spill(folder_ / "rows.jsonl", text); }
  std::string fault(const std::string& text) const {
    const Error error = test::thrown([&] { read_rows(write(text)); });
    EXPECT_EQ(error.kind(), ErrorKind::format);
    return error.what();
  }
  const test::TemporaryDirectory folder_;
};

TEST_F(RowsTest, ReadsLinesAndRemembersTheirNumbers) {
  const std::vector<Value> rows =
      read_rows(write("\xEF\xBB\xBF{\"text\": \"a\"}\n\n  \r\n{\"text\": \"b\"}\r\n{\"text\": \"c\"}"));
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[1].at("text").as_string(), "b");
  EXPECT_EQ(rows[0].origin.line, 1);
  EXPECT_EQ(rows[1].origin.line, 4);
  EXPECT_EQ(rows[2].origin.line, 5);
  EXPECT_THAT(rows[2].origin.str(), EndsWith(".jsonl:5"));
}

TEST_F(RowsTest, ReadsAListOfRows) {
  const std::vector<Value> rows = read_rows(
      write(" [\n  {\"text\": \"a]},[\\\"\"},\n  {\n    \"text\": \"b\"\n  }\n  ,{\"n\": [1, {\"x\": []}]}\n]\n"));
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].at("text").as_string(), "a]},[\"");
  EXPECT_EQ(rows[0].origin.line, 2);
  EXPECT_EQ(rows[1].origin.line, 3);
  EXPECT_EQ(rows[2].origin.line, 6);
}

TEST_F(RowsTest, ABadLineIsNamed) {
  EXPECT_THAT(fault("{\"text\": \"a\"}\n{\"text\": oops}\n"), HasSubstr(".jsonl:2"));
  EXPECT_THAT(fault("{\"text\": \"a\"}\n{\"text\": \"b\n"), HasSubstr(".jsonl:2"));
  EXPECT_THAT(fault("{\"text\": \"\xC0\xAF\"}\n"), HasSubstr(".jsonl:1"));
  EXPECT_THAT(fault("{} {}\n"), HasSubstr(".jsonl:1"));
  EXPECT_THAT(fault("{}\n\n[1]\n"), HasSubstr(".jsonl:3: got [1], want a JSON object"));
  EXPECT_THAT(fault("{}\n\"x\"\n"), HasSubstr(".jsonl:2: got 'x', want"));
}

TEST_F(RowsTest, ABadElementIsNamed) {
  EXPECT_THAT(fault("[\n{},\n{\"a\":\n  oops}\n]"), HasSubstr(".jsonl:4"));
  EXPECT_THAT(fault("[\n{}\n{}\n]"), HasSubstr(".jsonl:3: not valid JSON: want ',' or ']'"));
  EXPECT_THAT(fault("[\n{},\n"), HasSubstr("ends inside its list"));
  EXPECT_THAT(fault("[\n{}"), HasSubstr("ends inside its list"));
  EXPECT_THAT(fault("[{}, 5]"), HasSubstr(".jsonl:1: got 5, want"));
  EXPECT_THAT(fault("[{},]"), HasSubstr(".jsonl:1"));
  EXPECT_THAT(fault("[{}] x"), HasSubstr("text after the list"));
}

TEST_F(RowsTest, AnEmptyDataSetIsRefused) {
  for (const char* text : {"", "\n \n", "[]", "[\n]\n"})
    EXPECT_THAT(fault(text), HasSubstr("is an empty data set")) << text;
}

TEST_F(RowsTest, AMissingFileIsNamed) {
  EXPECT_ERROR(RowReader("/nowhere/rows.jsonl"), io, "/nowhere/rows.jsonl");
  EXPECT_THROW(RowReader reader(fs::temp_directory_path()), Error);
}

TEST(HeldOutRows, IsAFixedShare) {
  const std::vector<bool> held = held_out_rows(1000, 0.05, 7);
  EXPECT_EQ(std::count(held.begin(), held.end(), true), 50);
  EXPECT_EQ(held, held_out_rows(1000, 0.05, 7));
  EXPECT_NE(held, held_out_rows(1000, 0.05, 8));
  const std::vector<bool> few = held_out_rows(3, 0.01, 7);
  EXPECT_EQ(std::count(few.begin(), few.end(), true), 1);  // never none of two or more, never all
  const std::vector<bool> most = held_out_rows(3, 0.99, 7);
  EXPECT_EQ(std::count(most.begin(), most.end(), true), 2);
  EXPECT_EQ(held_out_rows(1, 0.5, 7), std::vector<bool>{false});
  EXPECT_THROW(held_out_rows(10, 0, 7), Error);
  EXPECT_THROW(held_out_rows(10, 1, 7), Error);
}

// The choice is part of a run's meaning: it must not change with a machine, a library or a version.
TEST(HeldOutRows, DoesNotChange) {
  std::vector<int> chosen;
  const std::vector<bool> held = held_out_rows(20, 0.2, 1);
  for (int i = 0; i < 20; ++i)
    if (held[i]) chosen.push_back(i);
  EXPECT_THAT(chosen, ::testing::ElementsAre(3, 6, 11, 16));
}

}  // namespace
}  // namespace ft
