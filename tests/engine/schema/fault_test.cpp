#include "engine/schema/fault.h"

#include <gtest/gtest.h>

namespace ft {
namespace {

TEST(EditDistance, counts_a_transposition_once) {
  EXPECT_EQ(edit_distance("offlaod", "offload"), 1u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(Nearest, allows_a_third_of_the_word_and_always_one_edit) {
  EXPECT_EQ(nearest("rl", {"lr"}), "lr");
  EXPECT_EQ(nearest("xy", {"lr"}), "");
  EXPECT_EQ(nearest("dropuot", {"dropout", "drop"}), "dropout");
  EXPECT_EQ(nearest("abcdef", {"abcxyz"}), "");
}

TEST(Render, has_its_parts_in_order) {
  Fault fault{false, {"a.lua", 2}, "x.y", "got 1, want 2", "write 2", "x.rule"};
  const auto source = [](const std::string&, int) { return std::optional<std::string>("  y = 1"); };
  EXPECT_EQ(render(fault, source), "a.lua:2: x.y: got 1, want 2\n   2 |   y = 1\n   rule: x.rule   help: write 2");
}

TEST(Render, leaves_the_line_out_when_the_file_cannot_be_read) {
  EXPECT_EQ(render(Fault{false, {"/nowhere", 2}, "x", "no", "", ""}), "/nowhere:2: x: no");
}

TEST(Render, sorts_by_line_and_says_the_same_thing_once) {
  const Fault later{false, {"a", 12}, "b", "no", "", ""}, earlier{false, {"a", 2}, "a", "no", "", ""};
  const auto none = [](const std::string&, int) { return std::optional<std::string>(); };
  EXPECT_EQ(render({later, earlier, later}, none), "a:2: a: no\n\na:12: b: no");
}

}  // namespace
}  // namespace ft
