#include "engine/train/gradient_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/linalg_vector_norm.h>

#include <algorithm>
#include <vector>

namespace ft {
namespace {

constexpr int64_t kChunk = int64_t{1} << 16;

double chunk_squares(const float* x, int64_t count) {
  constexpr int64_t kLanes = 8;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += static_cast<double>(x[i + l]) * static_cast<double>(x[i + l]);
  double sum = 0;
  for (; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

double sum_of_squares(const at::Tensor& gradient) {
  if (!gradient.is_cpu()) {
    const auto norm = at::linalg_vector_norm(gradient, 2, std::nullopt, false, at::kDouble).item<double>();
    return norm * norm;
  }
  const float* x = gradient.const_data_ptr<float>();
  const int64_t count = gradient.numel(), chunks = (count + kChunk - 1) / kChunk;
  std::vector<double> sums(static_cast<size_t>(chunks));
  at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      sums[static_cast<size_t>(c)] = chunk_squares(x + c * kChunk, std::min(kChunk, count - c * kChunk));
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace ft
