#include "engine/train/interrupt.h"

#include <unistd.h>

#include <csignal>

namespace ft {
namespace {

volatile std::sig_atomic_t g_signal = 0;

void on_signal(int signal) {
  if (g_signal != 0) {
    // Only async-signal-safe calls: no flush, no destructors.
    constexpr char text[] = "\nstopped at once; the last complete checkpoint stands\n";
    [[maybe_unused]] const auto ignored = ::write(STDERR_FILENO, text, sizeof text - 1);
    ::_exit(128 + signal);
  }
  g_signal = signal;
  constexpr char text[] = "\nfinishing the step and saving; once more stops at once\n";
  [[maybe_unused]] const auto ignored = ::write(STDERR_FILENO, text, sizeof text - 1);
}

}  // namespace

void watch_for_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // reads of weights and of sockets go on
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGINT);
  sigaddset(&action.sa_mask, SIGTERM);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int interrupted() { return g_signal; }

}  // namespace ft
