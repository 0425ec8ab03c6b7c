#include "engine/layers/rope_table.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/pow.h>
#include <c10/core/GradMode.h>

#include <algorithm>

namespace ft {

void RopeTable::reach(int64_t last, at::Device device) {
  const int64_t have = cos_.defined() ? cos_.size(0) : 0;
  if (last < have && cos_.device() == device) return;
  c10::AutoGradMode no_graph(false);
  const int64_t positions =
      last < have ? have : std::max(last + 1, 2 * have);  // generation asks for one more at a time
  const auto fp32 = at::TensorOptions(at::kFloat);
  const at::Tensor exponents = at::arange(0, width_, 2, fp32).div(static_cast<double>(width_));
  const at::Tensor inverse = at::pow(at::Scalar(theta_), exponents).reciprocal();
  const at::Tensor angles = at::arange(positions, fp32).unsqueeze(1).mul(inverse.unsqueeze(0));
  // On the host and then moved: the same bits on every device.
  cos_ = angles.cos().to(device);
  sin_ = angles.sin().to(device);
}

}  // namespace ft
