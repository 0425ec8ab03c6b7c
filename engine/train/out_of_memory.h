#pragma once
/// What a run says when memory is out, of the host or of a device. Called by the run at its boundary, where LibTorch's
/// and the C++ library's exceptions become the engine's. Not collective: the rank that has no memory leaves with this
/// message, and the others learn that it left.

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/error/error.h"

namespace ft {

/// What is known where memory ran out.
struct MemoryUse {
  std::string unit;                                      ///< that was at work; "" when none
  std::vector<std::pair<std::string, int64_t>> by_kind;  ///< bytes that this rank holds
  int64_t on_device = 0;                                 ///< bytes that tensors take of its GPU
};

/// The one message: the unit, bytes wanted and free, the biggest kinds, and what to do, in order.
/// @return nothing when `exception` is about something else.
std::optional<Error> out_of_memory(const std::exception& exception, const MemoryUse& use);

}  // namespace ft
