#pragma once
/// GoogleTest over several processes: a test starts this same binary once a rank, each runs a named body with a process
/// group over Gloo, and the test reads what each returned. Bodies may use EXPECT_ and ASSERT_: their failures, and
/// whatever ends a rank, become failures of the test that started it.
///
///     RANK_BODY(sum_of_ranks) { return std::to_string(group->sum(group->rank())); }
///     TEST(ProcessGroup, Sums) { EXPECT_EQ(run_ranks(4, "sum_of_ranks")[3], "6.000000"); }

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "engine/parallel/process_group.h"

namespace ft::test {

using RankBody = std::string (*)(const std::shared_ptr<ProcessGroup>& group, const std::string& argument);

struct RankBodyEntry {
  RankBodyEntry(const char* name, RankBody body);
};

/// How one rank ended.
struct RankResult {
  int exit_code = 0;   ///< 128 + signal where a signal ended it
  std::string value;   ///< what the body returned
  std::string output;  ///< stdout and stderr
};

struct RanksOptions {
  std::string argument{};           ///< handed to every rank's body
  std::chrono::seconds limit{120};  ///< after it the ranks are killed, and that is a failure
  int threads = 1;                  ///< OMP_NUM_THREADS of each rank
};

/// Runs `body` on `world` ranks. @return each rank's value, by rank; empty where a rank failed, which fails the test.
std::vector<std::string> run_ranks(int world, const std::string& body, const RanksOptions& options = {});
inline std::vector<std::string> run_ranks(int world, const std::string& body, const std::string& argument) {
  return run_ranks(world, body, RanksOptions{.argument = argument});
}

/// The same, without a failure when ranks fail: for tests of what happens when they do.
std::vector<RankResult> run_ranks_raw(int world, const std::string& body, const RanksOptions& options = {});

}  // namespace ft::test

#define RANK_BODY(name)                                                                                               \
  static std::string rank_body_##name(const std::shared_ptr<::ft::ProcessGroup>& group, const std::string& argument); \
  static const ::ft::test::RankBodyEntry rank_body_entry_##name(#name, rank_body_##name);                             \
  static std::string rank_body_##name([[maybe_unused]] const std::shared_ptr<::ft::ProcessGroup>& group,              \
                                      [[maybe_unused]] const std::string& argument)
