#pragma once
/// Ctrl-C. Once: the run finishes its step, saves and leaves with 130; twice: it stops at once. SIGTERM counts alike,
/// with 143, since schedulers send it before they take a machine away. SIGUSR1: the run saves after its step and goes
/// on. The handlers are set by main (in a rank, not in the supervisor) and read by the run between steps and by the Lua
/// state's hook. Signals come to ranks at different times: a run must agree on the answer (ProcessGroup::max) before it
/// acts on it.

namespace ft {

/// Installs the handlers for SIGINT, SIGTERM and SIGUSR1.
void watch_for_interrupts();

/// The signal that asked to stop, 0 while none has come. Any thread.
int interrupted();

/// True once SIGUSR1 has come, until met_wish_to_save. Any thread.
bool asked_to_save();
/// The run has saved: what comes from now on is another wish.
void met_wish_to_save();

/// What main returns after an interrupt: 128 + signal.
inline int interrupt_exit_code(int signal) { return 128 + signal; }

}  // namespace ft
