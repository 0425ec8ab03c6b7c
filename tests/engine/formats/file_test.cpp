#include "engine/formats/file.h"

#include <sys/stat.h>

#include <cstring>
#include <iterator>
#include <vector>

#include "engine/formats/file_map.h"
#include "tests/temporary_directory.h"
#include "tests/thrown.h"

namespace ft {
namespace {

size_t entries(const std::filesystem::path& directory) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

TEST(File, IsWholeOrAbsent) {
  const test::TemporaryDirectory directory;
  {
    OutputFile file(directory / "a");
    file.write("half");
    EXPECT_FALSE(std::filesystem::exists(directory / "a"));
  }
  EXPECT_EQ(entries(directory.path()), 0u);
  {
    OutputFile file(directory / "a");
    file.write("who");
    file.write("le");
    EXPECT_EQ(file.size(), 5u);
    file.commit();
  }
  EXPECT_EQ(test::slurp(directory / "a"), "whole");
  EXPECT_EQ(entries(directory.path()), 1u);
  write_text(directory / "a", "new");
  EXPECT_EQ(read_text(directory / "a"), "new");
}

TEST(File, ReadsAnyRangeAndSaysWhereItEnds) {
  const test::TemporaryDirectory directory;
  write_text(directory / "a", "0123456789");
  const InputFile file(directory / "a");
  std::vector<std::byte> bytes(4);
  file.read(3, bytes);
  EXPECT_EQ(std::memcmp(bytes.data(), "3456", 4), 0);
  EXPECT_ERROR(file.read(8, bytes), io, "ends at byte 10, want 12");
}

TEST(File, ChecksumIsThatOfTheBytes) {
  const test::TemporaryDirectory directory;
  const std::string text(3'000'000, 'x');
  OutputFile file(directory / "a");
  file.write(std::string_view(text).substr(0, 1'234'567));
  file.write(std::string_view(text).substr(1'234'567));
  const uint64_t checksum = file.checksum();
  file.commit();
  EXPECT_EQ(file_checksum(directory / "a"), checksum);
  copy_whole(directory / "a", directory / "b");
  EXPECT_EQ(file_checksum(directory / "b"), checksum);
  write_text(directory / "a", text.substr(1) + "y");
  EXPECT_NE(file_checksum(directory / "a"), checksum);
  // XXH3 (64 bits) of no bytes, from its specification.
  write_text(directory / "c", "");
  EXPECT_EQ(file_checksum(directory / "c"), 0x2D06800538D394C2u);
}

TEST(File, NamesThePathAndTheReason) {
  const test::TemporaryDirectory directory;
  EXPECT_ERROR(InputFile(directory / "absent"), io, "absent: cannot open: No such file or directory");
  EXPECT_ERROR(InputFile(directory.path()), io, "Is a directory");
  EXPECT_ERROR(write_text(directory / "no/such/a", ""), io, "cannot write: No such file or directory");
}

// Nobody writes to it: opening it in the usual way would wait for ever.
TEST(File, RefusesAPipeAtOnce) {
  const test::TemporaryDirectory directory;
  ASSERT_EQ(mkfifo((directory / "pipe").c_str(), 0600), 0);
  EXPECT_ERROR(InputFile(directory / "pipe"), io, "it is a pipe, which is read once");
  EXPECT_ERROR(FileMap(directory / "pipe"), io, "pipe: cannot map: Invalid argument");
}

TEST(File, NamesAFileThatItMayNotRead) {
  const test::TemporaryDirectory directory;
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  write_text(directory / "secret", "x");
  chmod((directory / "secret").c_str(), 0);
  EXPECT_ERROR(InputFile(directory / "secret"), io, "Permission denied");
}

}  // namespace
}  // namespace ft
