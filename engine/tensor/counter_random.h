#pragma once
/// Random numbers as a function of a key and a counter, so that they do not depend on rank, thread or order of calls:
/// the same on every layout, and the same when something is run again. The mix is SplitMix64's finaliser (Steele, Lea
/// and Flood, "Fast splittable pseudorandom number generators", 2014).

#include <cmath>
#include <cstdint>
#include <string_view>

namespace ft {

/// Scrambles 64 bits; a bijection.
constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// FNV-1a of a name: the part of a key that says whose numbers these are.
constexpr uint64_t hash_name(std::string_view name) {
  uint64_t h = 0xCBF29CE484222325u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return h;
}

/// A stream of numbers addressed by index.
class CounterRandom {
 public:
  constexpr CounterRandom(uint64_t seed, std::string_view name) : key_(mix64(seed + kGolden) ^ hash_name(name)) {}

  constexpr uint64_t bits(uint64_t index) const { return mix64(key_ + (index + 1) * kGolden); }
  /// In [0, 1), 53 bits.
  constexpr double uniform(uint64_t index) const { return static_cast<double>(bits(index) >> 11) * 0x1.0p-53; }
  /// Standard normal, by Box and Muller from the two uniforms of this index.
  double normal(uint64_t index) const {
    constexpr double kTwoPi = 6.283185307179586;
    const double radius = std::sqrt(-2.0 * std::log1p(-uniform(2 * index)));
    return radius * std::cos(kTwoPi * uniform(2 * index + 1));
  }
  /// In [0, n), with a bias below n / 2^64.
  constexpr uint64_t below(uint64_t index, uint64_t n) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(bits(index)) * n) >> 64);
  }

 private:
  static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;  // 2^64 over the golden ratio
  uint64_t key_;
};

}  // namespace ft
