#include "engine/data/row_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>

#include "tests/temporary_directory.h"

namespace ft {
namespace {

using ::testing::ElementsAre;

class RowStreams : public ::testing::Test {
 protected:
  /// A file whose rows say its name and their number.
  DataFile file(const std::string& name, int rows, double weight = 1) const {
    std::ofstream out(folder_ / name);
    for (int i = 0; i < rows; ++i) out << "{\"n\": \"" << name << i << "\"}\n";
    return {folder_ / name, weight};
  }
  static std::vector<std::string> read(const std::vector<DataFile>& files, const RowChoice& choice = {}) {
    RowStream stream(files, choice);
    std::vector<std::string> out;
    while (const auto row = stream.next()) out.push_back(row->at("n").as_string());
    if (choice.limit == 0) {
      EXPECT_EQ(stream.bytes_read(), stream.total_bytes());
    }
    EXPECT_FALSE(stream.next());
    return out;
  }
  const test::TemporaryDirectory folder_;
};

TEST_F(RowStreams, FilesFollowOneAnother) {
  EXPECT_THAT(read({file("a", 2), file("none", 0), file("b", 1)}), ElementsAre("a0", "a1", "b0"));
  EXPECT_THAT(read({file("a", 2), file("b", 3)}, {.limit = 3}), ElementsAre("a0", "a1", "b0"));
}

TEST_F(RowStreams, WeightsAreHowOftenAnEpochReadsARow) {
  const std::vector<DataFile> files{file("a", 1000, 2.25), file("b", 1000, 0.5), file("c", 10)};
  const std::vector<std::string> rows = read(files, {.seed = 3});
  EXPECT_EQ(rows, read(files, {.seed = 3}));
  EXPECT_NE(rows, read(files, {.seed = 4}));
  std::map<std::string, int> times;
  for (const std::string& row : rows) ++times[row];
  int thrice = 0, halves = 0;
  for (const auto& [row, count] : times) {
    if (row[0] == 'a') {
      EXPECT_TRUE(count == 2 || count == 3) << row;
      thrice += count == 3;
    }
    halves += row[0] == 'b';
    if (row[0] != 'a') {
      EXPECT_EQ(count, 1) << row;
    }
  }
  EXPECT_EQ(times.size(), 1010u + static_cast<size_t>(halves));
  EXPECT_NEAR(thrice, 250, 45);  // three standard deviations of 1000 draws
  EXPECT_NEAR(halves, 500, 50);
}

TEST_F(RowStreams, WhatIsHeldOutAndWhatIsNotAreAllRowsWhateverTheWeights) {
  for (const double weight : {1.0, 3.0}) {
    const std::vector<DataFile> files{file("a", 60), file("b", 40, weight)};
    const std::vector<std::string> train = read(files, {.share = 0.2, .held = false, .seed = 7});
    const std::vector<std::string> held = read(files, {.share = 0.2, .held = true, .seed = 7});
    const std::set<std::string> in_train(train.begin(), train.end()), in_held(held.begin(), held.end());
    EXPECT_EQ(in_held.size(), 20u);
    EXPECT_EQ(in_train.size(), 80u);
    for (const std::string& row : in_held) EXPECT_FALSE(in_train.contains(row)) << row;
  }
}

}  // namespace
}  // namespace ft
