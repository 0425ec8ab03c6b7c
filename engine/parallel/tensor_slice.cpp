#include "engine/parallel/tensor_slice.h"

#include <algorithm>

#include "engine/error/error.h"

namespace ft {

void for_each_run(const Parameter& parameter, int64_t begin, int64_t count,
                  const std::function<void(const SliceRun&)>& visit) {
  const TensorSlice& slice = parameter.slice;
  if (slice.dim == 0 || slice.whole()) {
    if (count > 0) visit({slice.index * parameter.numel() + begin, begin, count});
    return;
  }
  FT_CHECK(slice.dim == 1 && parameter.shape.size() == 2, parameter.name + ": slices are of rows or of columns");
  const int64_t width = parameter.shape[1], stride = width * slice.parts;
  for (int64_t at = begin; at < begin + count;) {
    const int64_t row = at / width, column = at % width;
    const int64_t run = std::min(width - column, begin + count - at);
    visit({row * stride + slice.index * width + column, at, run});
    at += run;
  }
}

}  // namespace ft
