#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/arrow_plugin.h"
#include "tools/fuzz/targets.h"

namespace ft {
namespace {

std::vector<uint8_t> bytes_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Corpora : public testing::TestWithParam<fuzz::Target> {};

// The corpus of each target as it is, cut at 50 places, and with 200 bytes changed.
TEST_P(Corpora, AreReadOrRefused) {
  const fuzz::Target& target = GetParam();
  const std::string name = target.name;
  if ((name == "parquet" || name == "arrow") && !test::have_arrow_plugin())
    GTEST_SKIP() << "the Arrow plugin is not built";
  size_t files = 0;
  for (const auto& file : std::filesystem::directory_iterator(std::filesystem::path(FT_CORPUS_DIR) / name)) {
    SCOPED_TRACE(file.path().filename());
    const std::vector<uint8_t> whole = bytes_of(file.path());
    EXPECT_NO_THROW(target.run(whole));
    for (size_t part = 0; part < 50; ++part)
      EXPECT_NO_THROW(target.run(std::span(whole).first(whole.size() * part / 50))) << part;
    std::mt19937 random(static_cast<unsigned>(whole.size()));
    for (int change = 0; change < 200 && !whole.empty(); ++change) {
      std::vector<uint8_t> changed = whole;
      for (int i = 0; i < 1 + change % 3; ++i) changed[random() % changed.size()] = static_cast<uint8_t>(random());
      EXPECT_NO_THROW(target.run(changed)) << change;
    }
    ++files;
  }
  EXPECT_GT(files, 0u);
}

INSTANTIATE_TEST_SUITE_P(Readers, Corpora, testing::ValuesIn(fuzz::targets().begin(), fuzz::targets().end()),
                         [](const auto& target) { return std::string(target.param.name); });

}  // namespace
}  // namespace ft
