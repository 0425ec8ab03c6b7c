#include "engine/error/error.h"

#include <gtest/gtest.h>

namespace ft {
namespace {

TEST(Error, prints_its_four_parts_in_order) {
  Error e(ErrorKind::shape, "got [2, 3], want [2, 4]");
  e.context("forward").context("step 12").key("layers.0.mlp").at("my.lua:3").help("mend it");
  EXPECT_STREQ(e.what(),
               "my.lua:3: layers.0.mlp: got [2, 3], want [2, 4]\n   while: forward, step 12\n   help: mend it");
}

TEST(Error, keeps_the_place_that_stood_closest_to_the_fault) {
  Error e(ErrorKind::config, "no");
  e.at("inner:1").at("outer:2");
  EXPECT_EQ(e.where(), "inner:1");
}

TEST(Check, throws_an_internal_error_with_the_expression) {
  try {
    FT_CHECK(1 == 2, "sums");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::internal);
    EXPECT_NE(std::string(e.what()).find("1 == 2"), std::string::npos);
  }
}

}  // namespace
}  // namespace ft
