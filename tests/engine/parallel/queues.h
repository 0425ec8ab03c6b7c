#pragma once
/// A device on the CPU that writes down what it is asked to order: what code that is right on a GPU must have asked
/// for. Any thread.

#include <mutex>
#include <string>
#include <vector>

#include "engine/parallel/compute_device.h"

namespace ft::test {

class Queues : public ComputeDevice {
 public:
  Queues() : ComputeDevice(c10::kCPU, "queues") {}

  /// A mark is the number of things that were written down before it, and the queue that it stands in.
  Mark mark() override {
    const std::lock_guard lock(mutex_);
    said_.push_back(queue() + ": mark " + std::to_string(++marks_));
    return std::make_shared<int>(marks_);
  }
  void wait(const Mark& mark) override {
    const std::lock_guard lock(mutex_);
    if (mark) said_.push_back(queue() + ": wait " + std::to_string(*static_cast<int*>(mark.get())));
  }
  std::shared_ptr<void> enter(Queue queue) override {
    thread_queue() = queue == Queue::copies ? "copies" : "saving";
    return std::shared_ptr<void>(nullptr, [](void*) { thread_queue().clear(); });
  }

  /// What was asked for since the last call.
  std::vector<std::string> said() {
    const std::lock_guard lock(mutex_);
    return std::exchange(said_, {});
  }

 private:
  static std::string& thread_queue() {
    thread_local std::string queue;
    return queue;
  }
  static std::string queue() { return thread_queue().empty() ? "compute" : thread_queue(); }

  std::mutex mutex_;
  std::vector<std::string> said_;
  int marks_ = 0;
};

}  // namespace ft::test
