#include "engine/train/interrupt.h"

#include <unistd.h>

#include <csignal>

namespace ft {
namespace {

volatile std::sig_atomic_t g_signal = 0, g_asked_to_save = 0;

// The supervisor queues its signal when another rank has failed: that is no wish of the user's, and is not answered.
void on_signal(int signal, siginfo_t* info, void*) {
  const bool from_supervisor = info->si_code == SI_QUEUE;
  if (from_supervisor && g_signal == 0) {
    g_signal = signal;
    return;
  }
  if (g_signal != 0) {
    // Only async-signal-safe calls: no flush, no destructors.
    constexpr char text[] = "\nstopped at once; the last complete checkpoint stands\n";
    [[maybe_unused]] const auto ignored = from_supervisor ? 0 : ::write(STDERR_FILENO, text, sizeof text - 1);
    ::_exit(128 + signal);
  }
  g_signal = signal;
  constexpr char text[] = "\nfinishing the step and saving; once more stops at once\n";
  [[maybe_unused]] const auto ignored = ::write(STDERR_FILENO, text, sizeof text - 1);
}

}  // namespace

void watch_for_interrupts() {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_RESTART | SA_SIGINFO;  // reads of weights and of sockets go on
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGINT);
  sigaddset(&action.sa_mask, SIGTERM);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_sigaction = [](int, siginfo_t*, void*) { g_asked_to_save = 1; };
  sigaction(SIGUSR1, &action, nullptr);
}

int interrupted() { return g_signal; }

bool asked_to_save() { return g_asked_to_save != 0; }

void met_wish_to_save() { g_asked_to_save = 0; }

}  // namespace ft
