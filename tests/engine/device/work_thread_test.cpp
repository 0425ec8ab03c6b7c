#include "engine/device/work_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <stdexcept>
#include <vector>

namespace ft {
namespace {

TEST(WorkThread, DoesJobsInOrderOnOneThreadOfItsOwn) {
  WorkThread thread;
  thread.wait(0);
  std::vector<int> done;
  std::vector<std::thread::id> ids;
  int64_t last = 0;
  for (int i = 0; i < 100; ++i)
    last = thread.add([&, i] {
      done.push_back(i);
      ids.push_back(std::this_thread::get_id());
    });
  EXPECT_EQ(last, 100);
  thread.wait(last);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(done[static_cast<size_t>(i)], i);
  for (const auto& id : ids) EXPECT_EQ(id, ids[0]);
  EXPECT_NE(ids[0], std::this_thread::get_id());
}

TEST(WorkThread, WaitsForNoMoreThanItIsAsked) {
  WorkThread thread;
  std::promise<void> go;
  const int64_t first = thread.add([] {});
  const int64_t second = thread.add([held = go.get_future().share()] { held.wait(); });
  thread.wait(first);
  go.set_value();
  thread.wait(second);
}

TEST(WorkThread, ThrowsWhatAJobThrewAndBeginsNoOther) {
  WorkThread thread;
  bool other = false;
  thread.add([] { throw std::runtime_error("of a job"); });
  const int64_t last = thread.add([&] { other = true; });
  for (int i = 0; i < 2; ++i) EXPECT_THROW(thread.wait(last), std::runtime_error);
  EXPECT_FALSE(other);
}

TEST(WorkThread, DropsAtItsEndWhatHasNotBegun) {
  std::promise<void> begun, go;
  std::atomic<int> done = 0;
  {
    WorkThread thread;
    thread.add([&, held = go.get_future().share()] {
      begun.set_value();
      held.wait();
      ++done;
    });
    begun.get_future().wait();
    go.set_value();
  }
  EXPECT_EQ(done, 1);
  { const WorkThread unused; }
}

}  // namespace
}  // namespace ft
