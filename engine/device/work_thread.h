#pragma once
/// A thread that does jobs in the order in which it is given them, beside the thread that gives them. Used by what
/// updates parameters beside the steps. Thread rule: one thread gives and waits. Not collective.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace ft {

class WorkThread {
 public:
  WorkThread() = default;
  /// Waits for the job at work; those that have not begun are dropped.
  ~WorkThread();
  WorkThread(const WorkThread&) = delete;
  WorkThread& operator=(const WorkThread&) = delete;

  /// @return the job's number: 1, 2, … After a job that threw none is begun.
  int64_t add(std::function<void()> job);
  /// Returns when the jobs up to this number are done, at once for 0.   @throws what a job threw, every time
  void wait(int64_t number);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable news_;
  std::deque<std::function<void()>> jobs_;
  std::exception_ptr failure_;
  int64_t added_ = 0, done_ = 0;
  bool closing_ = false;
  std::thread thread_;  // from the first job on
};

}  // namespace ft
