#include "engine/optim/adamw8bit.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/error/error.h"
#include "engine/layers/device_op.h"
#include "engine/optim/update_kernels.h"
#include "engine/quant/block8.h"

namespace ft::ops {
namespace {

constexpr int64_t kChunk = 32 * kBlock8;  // 8192 elements: some 130 KB of traffic, small enough to balance 100 threads

/// One tensor of the lists by its addresses.
struct Tensor {
  update::AdamW step;
  int64_t count;
  update::Blocks8 blocks;

  update::Blocks8 from(int64_t first) const {
    const int64_t block = first / kBlock8;
    return {blocks.grad + first,         blocks.master + first,      blocks.mean_codes + first,
            blocks.square_codes + first, blocks.mean_scales + block, blocks.square_scales + block};
  }
};

void update_block(const update::AdamW& step, const update::Blocks8& t, int64_t count) {
  float mean[kBlock8], square[kBlock8];
  dequantize_block8(Map8::with_sign, t.mean_codes, *t.mean_scales, count, mean);
  dequantize_block8(Map8::without_sign, t.square_codes, *t.square_scales, count, square);
  update::kernels().adamw(step, t.grad, t.master, mean, square, count);
  *t.mean_scales = quantize_block8(Map8::with_sign, mean, count, t.mean_codes);
  *t.square_scales = quantize_block8(Map8::without_sign, square, count, t.square_codes);
}

void update_chunk(const Tensor& t, int64_t first) {
  const int64_t end = std::min(t.count, first + kChunk);
  if (const update::Adamw8bit fused = update::adamw8bit()) {
    const int64_t blocks = (end - first) / kBlock8;
    fused(t.step, t.from(first), block8_tables(Map8::with_sign), block8_tables(Map8::without_sign), blocks);
    first += blocks * kBlock8;
  }
  for (; first < end; first += kBlock8) update_block(t.step, t.from(first), std::min(kBlock8, end - first));
}

void adamw8bit_cpu(at::TensorList masters, at::TensorList grads, at::TensorList exp_avgs, at::TensorList exp_avg_sqs,
                   at::TensorList exp_avg_scales, at::TensorList exp_avg_sq_scales, at::ArrayRef<double> lrs,
                   at::ArrayRef<double> weight_decays, double beta1, double beta2, double eps, int64_t step) {
  const auto t = static_cast<double>(step);
  const double correction_1 = 1.0 - std::pow(beta1, t), correction_2 = 1.0 - std::pow(beta2, t);
  std::vector<Tensor> tensors;
  std::vector<int64_t> ends;  // chunks of all tensors up to each
  for (size_t i = 0; i < masters.size(); ++i) {
    const int64_t count = masters[i].numel();
    const Tensor tensor{.step = {.keep = static_cast<float>(1.0 - lrs[i] * weight_decays[i]),
                                 .rate = static_cast<float>(lrs[i] / correction_1),
                                 .weight_1 = static_cast<float>(1.0 - beta1),
                                 .weight_2 = static_cast<float>(1.0 - beta2),
                                 .inverse_root = static_cast<float>(1.0 / std::sqrt(correction_2)),
                                 .eps = static_cast<float>(eps)},
                        .count = count,
                        .blocks = {.grad = grads[i].const_data_ptr<float>(),
                                   .master = masters[i].data_ptr<float>(),
                                   .mean_codes = exp_avgs[i].data_ptr<uint8_t>(),
                                   .square_codes = exp_avg_sqs[i].data_ptr<uint8_t>(),
                                   .mean_scales = exp_avg_scales[i].data_ptr<float>(),
                                   .square_scales = exp_avg_sq_scales[i].data_ptr<float>()}};
    tensors.push_back(tensor);
    ends.push_back((ends.empty() ? 0 : ends.back()) + (count + kChunk - 1) / kChunk);
  }
  if (tensors.empty()) return;
  // One region over all tensors: threads wait for each other once a step.
  at::parallel_for(0, ends.back(), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    auto i = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin());
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      while (chunk >= ends[i]) ++i;
      update_chunk(tensors[i], (chunk - (i == 0 ? 0 : ends[i - 1])) * kChunk);
    }
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ft, m) {
  m.def(
      "adamw8bit_(Tensor(a!)[] masters, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, "
      "Tensor(d!)[] exp_avg_scales, Tensor(e!)[] exp_avg_sq_scales, float[] lrs, float[] weight_decays, float beta1, "
      "float beta2, float eps, int step) -> ()");
}

TORCH_LIBRARY_IMPL(ft, CPU, m) { m.impl("adamw8bit_", adamw8bit_cpu); }

void adamw8bit_(at::TensorList masters, at::TensorList grads, at::TensorList exp_avgs, at::TensorList exp_avg_sqs,
                at::TensorList exp_avg_scales, at::TensorList exp_avg_sq_scales, at::ArrayRef<double> lrs,
                at::ArrayRef<double> weight_decays, double beta1, double beta2, double eps, int64_t step) {
  static const DeviceOp<decltype(adamw8bit_)> op("ft::adamw8bit_");
  const size_t n = masters.size();
  FT_CHECK(grads.size() == n && exp_avgs.size() == n && exp_avg_sqs.size() == n && exp_avg_scales.size() == n &&
               exp_avg_sq_scales.size() == n && lrs.size() == n && weight_decays.size() == n,
           "adamw8bit_: lists of one length");
  if (n == 0) return;  // nothing that a kernel could be chosen by
  op(masters, grads, exp_avgs, exp_avg_sqs, exp_avg_scales, exp_avg_sq_scales, lrs, weight_decays, beta1, beta2, eps,
     step);
}

}  // namespace ft::ops
