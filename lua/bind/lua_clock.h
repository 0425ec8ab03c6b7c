#pragma once
/// How long forwards stated in Lua spend in Lua itself, native ops left out: the clock runs between InLua's beginning
/// and its end, and stands still inside InNative. One thread, the one that walks the schedule.

#include <chrono>

namespace ft {

class LuaClock {
 public:
  /// Seconds since the last call.
  static double take() {
    const double seconds = total();
    total() = 0;
    return seconds;
  }

 protected:
  explicit LuaClock(bool lua) : before_(running()) { turn(lua); }
  ~LuaClock() { turn(before_); }
  LuaClock(const LuaClock&) = delete;
  static bool& running() {
    static bool is = false;
    return is;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double& total() {
    static double seconds = 0;
    return seconds;
  }
  static void turn(bool on) {
    static Clock::time_point since;
    if (on == running()) return;
    const auto now = Clock::now();
    if (running()) total() += std::chrono::duration<double>(now - since).count();
    since = now;
    running() = on;
  }
  bool before_;
};

struct InLua : LuaClock {
  InLua() : LuaClock(true) {}
};

/// Outside a forward it changes nothing: what the recipe's loop calls is not measured.
struct InNative : LuaClock {
  InNative() : LuaClock(false) {}
};

}  // namespace ft
