#include "engine/device/figures.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace ft {
namespace {

TEST(Figures, Bytes) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(999), "999 B");
  EXPECT_EQ(bytes_text(1000), "1.00 kB");
  EXPECT_EQ(bytes_text(1234), "1.23 kB");
  EXPECT_EQ(bytes_text(23'400'000), "23.4 MB");
  EXPECT_EQ(bytes_text(999'600'000), "1.00 GB");  // never "1000 MB"
  EXPECT_EQ(bytes_text(1.5e11), "150 GB");
}

TEST(Figures, Counts) {
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1000), "1,000");
  EXPECT_EQ(count_text(1234567), "1,234,567");
  EXPECT_EQ(count_text(-123456), "-123,456");
  EXPECT_EQ(count_text(-123), "-123");
}

TEST(Figures, Durations) {
  EXPECT_EQ(duration_text(7.4), "0:07");
  EXPECT_EQ(duration_text(59.6), "1:00");
  EXPECT_EQ(duration_text(754), "12:34");
  EXPECT_EQ(duration_text(3723), "1:02:03");
  EXPECT_EQ(duration_text(2 * 86400 + 3 * 3600 + 4 * 60), "2d 03:04");
  EXPECT_EQ(duration_text(std::nan("")), "?");
}

TEST(Figures, Numbers) {
  EXPECT_EQ(short_text(0), "0");
  EXPECT_EQ(short_text(1.23456), "1.2346");
  EXPECT_EQ(short_text(12.3456), "12.346");
  EXPECT_EQ(short_text(0.00001234), "1.234e-05");
  EXPECT_EQ(short_text(123456), "1.235e+05");
  EXPECT_EQ(short_text(-std::numeric_limits<double>::infinity()), "-inf");
  EXPECT_EQ(short_text(std::nan("")), "nan");
}

}  // namespace
}  // namespace ft
