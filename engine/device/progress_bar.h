#pragma once
/// How far a long piece of work is, in bytes: on a terminal a bar that is drawn over, elsewhere a line now and then.
/// Used by loading and merging. advance() may be called from any thread; the rest from the one that made it.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "engine/device/terminal.h"

namespace ft {

class ProgressBar {
 public:
  /// @param total_bytes of the whole work; 0 when unknown.
  ProgressBar(std::shared_ptr<Terminal> terminal, std::string title, int64_t total_bytes,
              std::chrono::seconds plain_every = std::chrono::seconds(10));
  ~ProgressBar();  ///< leaves the bar as it stands where finish() was not reached
  ProgressBar(const ProgressBar&) = delete;

  void advance(int64_t bytes);
  /// The work is done: the bar is full, and stays as one line with the time taken.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void show(Clock::time_point now);
  std::string bar(double share) const;
  double seconds(Clock::time_point now) const { return std::chrono::duration<double>(now - begin_).count(); }

  std::shared_ptr<Terminal> terminal_;
  std::string title_;
  int64_t total_;
  Clock::duration every_;
  Clock::time_point begin_ = Clock::now();
  std::atomic<int64_t> done_{0};
  std::mutex showing_;
  Clock::time_point shown_ = begin_;
  bool finished_ = false;
};

}  // namespace ft
