#pragma once
/// Where the elements of a slice lie in its whole tensor. Pure arithmetic: no tensor, no process group. Used by loading
/// (train/weights) and by what saves and resumes (train/save, train/resume).

#include <cstdint>
#include <functional>

#include "engine/parallel/parameter.h"

namespace ft {

/// Elements that follow one another in a slice and in its whole.
struct SliceRun {
  int64_t whole = 0;  ///< first one in the flattened whole tensor
  int64_t local = 0;  ///< the same one in the flattened slice
  int64_t count = 0;
};

/// Calls `visit` for the runs that elements [begin, begin + count) of a flattened parameter consist of, in order: one,
/// or one a row where columns are cut.
void for_each_run(const Parameter& parameter, int64_t begin, int64_t count,
                  const std::function<void(const SliceRun&)>& visit);

}  // namespace ft
