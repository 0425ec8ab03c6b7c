#pragma once
/// Readers of bytes that may come from anyone, each as a function to be called with any bytes: by libFuzzer
/// (tools/fuzz/run), and by tests/fuzz, which replays what lies in its corpora. One thread.

#include <cstdint>
#include <span>

namespace ft::fuzz {

struct Target {
  const char* name;
  /// Reads the bytes, and whatever was read of them. A refusal is nothing; a crash, a bug of ours (Error(internal)) or
  /// any exception that is no Error is a finding.
  void (*run)(std::span<const uint8_t> bytes);
};

std::span<const Target> targets();

}  // namespace ft::fuzz
