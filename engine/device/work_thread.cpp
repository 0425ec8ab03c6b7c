#include "engine/device/work_thread.h"

#include <utility>

namespace ft {

WorkThread::~WorkThread() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    news_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

int64_t WorkThread::add(std::function<void()> job) {
  const std::lock_guard lock(mutex_);
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  jobs_.push_back(std::move(job));
  news_.notify_all();
  return ++added_;
}

void WorkThread::wait(int64_t number) {
  std::unique_lock lock(mutex_);
  news_.wait(lock, [&] { return done_ >= number; });
  if (failure_) std::rethrow_exception(failure_);
}

void WorkThread::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    news_.wait(lock, [this] { return closing_ || !jobs_.empty(); });
    if (closing_) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    std::exception_ptr failure;
    if (!failure_) {
      lock.unlock();
      try {
        job();
      } catch (const std::exception&) {
        failure = std::current_exception();
      }
      job = nullptr;  // what it holds is given back before it counts as done
      lock.lock();
    }
    if (failure) failure_ = failure;
    ++done_;
    news_.notify_all();
  }
}

}  // namespace ft
