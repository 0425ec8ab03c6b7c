// ft::adamw8bit_ for CUDA tensors (adamw8bit.cu). Part of the CUDA plugin.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/error/error.h"
#include "engine/optim/adamw8bit_device.h"
#include "engine/quant/dynamic_map.h"

namespace ft::device {
namespace {

// 4 KB a step: cheaper than a copy a device to look after.
at::Tensor map_tables(at::Device device) {
  at::Tensor host = at::empty({kMapTables}, at::TensorOptions(at::kFloat));
  auto* to = host.data_ptr<float>();
  for (const auto* table :
       {&signed_dynamic_map(), &signed_dynamic_thresholds(), &unsigned_dynamic_map(), &unsigned_dynamic_thresholds()})
    to = std::copy(table->begin(), table->end(), to);
  // From pageable memory CUDA takes what it copies before it returns.
  return host.to(device, /*non_blocking=*/true);
}

void adamw8bit_cuda(at::TensorList masters, at::TensorList grads, at::TensorList exp_avgs, at::TensorList exp_avg_sqs,
                    at::TensorList exp_avg_scales, at::TensorList exp_avg_sq_scales, at::ArrayRef<double> lrs,
                    at::ArrayRef<double> weight_decays, double beta1, double beta2, double eps, int64_t step) {
  if (masters.empty()) return;
  const at::Device device = masters[0].device();
  const c10::cuda::CUDAGuard guard(device);
  const auto t = static_cast<double>(step);
  const double correction_1 = 1.0 - std::pow(beta1, t), correction_2 = 1.0 - std::pow(beta2, t);
  std::vector<BlockState> tensors;
  for (size_t i = 0; i < masters.size(); ++i) {
    for (const at::Tensor* one :
         {&masters[i], &grads[i], &exp_avgs[i], &exp_avg_sqs[i], &exp_avg_scales[i], &exp_avg_sq_scales[i]})
      FT_CHECK(one->device() == device && one->is_contiguous(), "adamw8bit_: contiguous tensors of one device");
    tensors.push_back({.step = {.keep = static_cast<float>(1.0 - lrs[i] * weight_decays[i]),
                                .rate = static_cast<float>(lrs[i] / correction_1),
                                .weight_1 = static_cast<float>(1.0 - beta1),
                                .weight_2 = static_cast<float>(1.0 - beta2),
                                .inverse_root = static_cast<float>(1.0 / std::sqrt(correction_2)),
                                .eps = static_cast<float>(eps)},
                       .blocks = {.grad = grads[i].const_data_ptr<float>(),
                                  .master = masters[i].data_ptr<float>(),
                                  .mean_codes = exp_avgs[i].data_ptr<uint8_t>(),
                                  .square_codes = exp_avg_sqs[i].data_ptr<uint8_t>(),
                                  .mean_scales = exp_avg_scales[i].data_ptr<float>(),
                                  .square_scales = exp_avg_sq_scales[i].data_ptr<float>()},
                       .count = masters[i].numel()});
  }
  const at::Tensor tables = map_tables(device);
  adamw8bit(tensors, tables.const_data_ptr<float>(), c10::cuda::getCurrentCUDAStream());
}

}  // namespace

TORCH_LIBRARY_IMPL(ft, CUDA, m) { m.impl("adamw8bit_", adamw8bit_cuda); }

}  // namespace ft::device
