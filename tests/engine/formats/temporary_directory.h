#pragma once
/// A directory of a test's own, gone at its end; and what tests of files share. One thread.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>

#include "engine/error/error.h"

namespace ft::test {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::temp_directory_path() /
            (std::string("ftengine-") + info->test_suite_name() + "-" + info->name() + "-" + std::to_string(getpid()));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void spill(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

/// What a call throws; fails the test when it throws nothing or something else.
inline Error thrown(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorKind::internal, "nothing was thrown");
}

}  // namespace ft::test

/// Checks the kind of what `statement` throws and that its text has `part`.
#define EXPECT_ERROR(statement, wanted_kind, part)                                        \
  do {                                                                                    \
    const ::ft::Error error_ = ::ft::test::thrown([&] { statement; });                    \
    EXPECT_EQ(error_.kind(), ::ft::ErrorKind::wanted_kind) << error_.what();              \
    EXPECT_NE(std::string(error_.what()).find(part), std::string::npos) << error_.what(); \
  } while (false)
