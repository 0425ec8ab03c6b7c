#include "engine/formats/locked_file.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "tests/temporary_directory.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

// The other process is there before the lock is, or it would inherit it.
TEST(LockedFile, OneProcessHoldsItAndTheOthersWait) {
  const test::TemporaryDirectory folder;
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  const pid_t other = fork();
  if (other == 0) {
    char byte = 0;
    if (read(go[0], &byte, 1) != 1) _exit(2);
    int waited = 0;
    const LockedFile lock(folder / "lock", [&] { ++waited; });
    _exit(waited > 0 && fs::exists(folder / "done") ? 0 : 1);
  }
  auto lock = std::make_unique<LockedFile>(folder / "lock", [] { FAIL() << "nobody else holds it"; });
  ASSERT_EQ(write(go[1], "x", 1), 1);
  usleep(200'000);
  std::ofstream(folder / "done") << "x";
  lock.reset();
  int status = 0;
  waitpid(other, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace ft
