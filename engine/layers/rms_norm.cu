// RMSNorm (rms_norm_device.h). Short rows (a head's query) take a warp each, long ones a block. Bound by memory: x is
// read from it once, the second time from cache.

#include <algorithm>
#include <limits>
#include <type_traits>

#include "engine/layers/rms_norm_device.h"
#include "engine/tensor/kernel.cuh"
#include "engine/tensor/kernel_launch.h"

namespace ft::device {
namespace {

constexpr const char* kOp = "ft::rms_norm";
constexpr int kThreads = 256;
constexpr int64_t kWarpWidth = 1024;  // rows up to this width take a warp
constexpr int64_t kPartRows = 64, kMostParts = 1024;

// The row of this thread's team, and its place in the team.
template <int kTeam>
__device__ int64_t team_row() {
  return static_cast<int64_t>(blockIdx.x) * (kThreads / kTeam) + threadIdx.x / kTeam;
}

template <class T, class W, int kTeam, int N>
__global__ void __launch_bounds__(kThreads) forward(const T* __restrict__ x, const W* __restrict__ w, int64_t rows,
                                                    int width, float eps, T* __restrict__ y, float* __restrict__ rstd) {
  const int64_t row = team_row<kTeam>();
  if (row >= rows) return;  // the whole team: team_sum is called by all of it or by none
  const int first = static_cast<int>(threadIdx.x % kTeam) * N;
  x += row * width;
  y += row * width;
  float sum = 0;
  for (int i = first; i < width; i += kTeam * N) {
    const Pack<T, N> values = load_pack<N>(x + i);
    for (int k = 0; k < N; ++k) sum += to_float(values.at[k]) * to_float(values.at[k]);
  }
  const float r = 1.f / sqrtf(team_sum<kTeam>(sum) / static_cast<float>(width) + eps);
  for (int i = first; i < width; i += kTeam * N) {
    const Pack<T, N> values = load_pack<N>(x + i);
    const Pack<W, N> weights = load_pack<N>(w + i);
    Pack<T, N> out;
    for (int k = 0; k < N; ++k) store_float(to_float(values.at[k]) * r * to_float(weights.at[k]), out.at[k]);
    store_pack<N>(out, y + i);
  }
  if (first == 0) rstd[row] = r;
}

template <class T, class W, int kTeam, int N>
__global__ void __launch_bounds__(kThreads)
    input_gradient(const T* __restrict__ gy, const T* __restrict__ x, const W* __restrict__ w,
                   const float* __restrict__ rstd, int64_t rows, int width, T* __restrict__ gx) {
  const int64_t row = team_row<kTeam>();
  if (row >= rows) return;
  const int first = static_cast<int>(threadIdx.x % kTeam) * N;
  gy += row * width;
  x += row * width;
  gx += row * width;
  const float r = rstd[row];
  float dot = 0;
  for (int i = first; i < width; i += kTeam * N) {
    const Pack<T, N> grads = load_pack<N>(gy + i), values = load_pack<N>(x + i);
    const Pack<W, N> weights = load_pack<N>(w + i);
    for (int k = 0; k < N; ++k) dot += to_float(grads.at[k]) * to_float(weights.at[k]) * (to_float(values.at[k]) * r);
  }
  const float mean = team_sum<kTeam>(dot) / static_cast<float>(width);
  for (int i = first; i < width; i += kTeam * N) {
    const Pack<T, N> grads = load_pack<N>(gy + i), values = load_pack<N>(x + i);
    const Pack<W, N> weights = load_pack<N>(w + i);
    Pack<T, N> out;
    for (int k = 0; k < N; ++k)
      store_float(r * (to_float(grads.at[k]) * to_float(weights.at[k]) - to_float(values.at[k]) * r * mean), out.at[k]);
    store_pack<N>(out, gx + i);
  }
}

// A block of 32 columns by 8 rows sums one part of the rows for 32 columns.
constexpr int kColumns = 32, kRowsAtOnce = 8;

template <class T>
__global__ void __launch_bounds__(kColumns* kRowsAtOnce)
    weight_gradient(const T* gy, const T* x, const float* rstd, int64_t rows, int64_t width, int64_t rows_a_part,
                    float* parts) {
  __shared__ float sums[kRowsAtOnce][kColumns];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  const int64_t begin = blockIdx.y * rows_a_part;
  const int64_t end = begin + rows_a_part < rows ? begin + rows_a_part : rows;
  float sum = 0;
  if (column < width)
    for (int64_t row = begin + threadIdx.y; row < end; row += kRowsAtOnce)
      sum += to_float(gy[row * width + column]) * (to_float(x[row * width + column]) * rstd[row]);
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (int i = 1; i < kRowsAtOnce; ++i) sum += sums[i][threadIdx.x];
  parts[blockIdx.y * width + column] = sum;
}

// Calls f(row type, weight type, team, pack) with null pointers of the types and integral constants that fit the rows.
template <class F>
void with_shape(const NormRows& r, bool packed, const F& f) {
  with_float_type(r.dtype, kOp, [&]<class T>(T* row) {
    const auto with_weight = [&]<class W>(W* weight) {
      const auto with_team = [&]<int kTeam>(std::integral_constant<int, kTeam> team) {
        packed ? f(row, weight, team, std::integral_constant<int, kWidest<T>>{})
               : f(row, weight, team, std::integral_constant<int, 1>{});
      };
      r.width <= kWarpWidth ? with_team(std::integral_constant<int, kWarp>{})
                            : with_team(std::integral_constant<int, kThreads>{});
    };
    r.weight_dtype == DType::f32 ? with_weight(static_cast<float*>(nullptr)) : with_weight(row);
  });
}

// Whether all rows can be read in 16-byte packs of x's dtype (and as many weights at once).
bool packable(const NormRows& r, const void* more, const void* result) {
  const auto elements = static_cast<int64_t>(16 / byte_size(r.dtype));
  const auto aligned = [](const void* p, size_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; };
  return r.width % elements == 0 && aligned(r.x, 16) && aligned(more, 16) && aligned(result, 16) &&
         aligned(r.weight, static_cast<size_t>(elements) * byte_size(r.weight_dtype));
}

void check(const NormRows& r) {
  FT_CHECK(r.width < std::numeric_limits<int32_t>::max() / 2, "rms_norm: rows of fewer elements");
  FT_CHECK(r.weight_dtype == r.dtype || r.weight_dtype == DType::f32, "rms_norm: a weight of x's dtype or fp32");
}

}  // namespace

void rms_norm(const NormRows& r, float eps, void* y, cudaStream_t stream) {
  check(r);
  if (r.rows == 0) return;
  with_shape(r, packable(r, nullptr, y),
             [&]<class T, class W, int kTeam, int N>(T*, W*, std::integral_constant<int, kTeam>,
                                                     std::integral_constant<int, N>) {
               launch({kOp, blocks_for(r.rows, kThreads / kTeam), kThreads, stream}, forward<T, W, kTeam, N>,
                      static_cast<const T*>(r.x), static_cast<const W*>(r.weight), r.rows, static_cast<int>(r.width),
                      eps, static_cast<T*>(y), r.rstd);
             });
}

void rms_norm_input_gradient(const NormRows& r, const void* gy, void* gx, cudaStream_t stream) {
  check(r);
  if (r.rows == 0) return;
  with_shape(r, packable(r, gy, gx),
             [&]<class T, class W, int kTeam, int N>(T*, W*, std::integral_constant<int, kTeam>,
                                                     std::integral_constant<int, N>) {
               launch({kOp, blocks_for(r.rows, kThreads / kTeam), kThreads, stream}, input_gradient<T, W, kTeam, N>,
                      static_cast<const T*>(gy), static_cast<const T*>(r.x), static_cast<const W*>(r.weight),
                      static_cast<const float*>(r.rstd), r.rows, static_cast<int>(r.width), static_cast<T*>(gx));
             });
}

int64_t rms_norm_parts(int64_t rows) {
  const int64_t rows_a_part = std::max(kPartRows, (rows + kMostParts - 1) / kMostParts);
  return (rows + rows_a_part - 1) / rows_a_part;
}

void rms_norm_weight_gradient(const NormRows& r, const void* gy, float* parts, cudaStream_t stream) {
  check(r);
  if (r.rows == 0 || r.width == 0) return;
  const int64_t count = rms_norm_parts(r.rows),
                rows_a_part = std::max(kPartRows, (r.rows + kMostParts - 1) / kMostParts);
  const dim3 grid(blocks_for(r.width, kColumns), static_cast<unsigned>(count)), block(kColumns, kRowsAtOnce);
  with_float_type(r.dtype, kOp, [&]<class T>(T*) {
    launch({kOp, grid, block, stream}, weight_gradient<T>, static_cast<const T*>(gy), static_cast<const T*>(r.x),
           static_cast<const float*>(r.rstd), r.rows, r.width, rows_a_part, parts);
  });
}

}  // namespace ft::device
