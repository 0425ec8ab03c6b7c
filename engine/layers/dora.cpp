#include "engine/layers/dora.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mul.h>

#include <algorithm>

#include "engine/layers/compute.h"

namespace ft {

at::Tensor row_norms(const at::Tensor& w, const at::Tensor& a, const at::Tensor& b, double scale) {
  constexpr int64_t kElements = int64_t{4} << 20;
  const int64_t rows = w.size(0), each = std::max<int64_t>(1, kElements / w.size(1));
  const at::Tensor norms = at::empty({rows}, w.options().dtype(at::kFloat)), a32 = in_dtype(a, at::kFloat);
  for (int64_t at = 0; at < rows; at += each) {
    const int64_t count = std::min(each, rows - at);
    const at::Tensor sum = at::addmm(in_dtype(w.narrow(0, at, count), at::kFloat),
                                     in_dtype(b.narrow(0, at, count), at::kFloat), a32, 1, scale);
    norms.narrow(0, at, count).copy_(at::linalg_vector_norm(sum, 2, {1}));
  }
  return norms;
}

Magnified magnify(const at::Tensor& plain, const at::Tensor& adapted, const at::Tensor& magnitude,
                  const at::Tensor& norm) {
  Magnified made{.y = {}, .adapted = adapted, .factor = {}, .norm = norm.to(magnitude.scalar_type()).to(at::kFloat)};
  made.factor = at::div(in_dtype(magnitude, at::kFloat), made.norm);
  at::Tensor y = at::mul(adapted, made.factor);  // in fp32: a factor near 1 has no room in fewer bits
  if (plain.defined()) y.add_(plain);
  made.y = in_dtype(y, adapted.scalar_type());
  return made;
}

at::Tensor magnitude_grad(const at::Tensor& grad, const at::Tensor& adapted, const at::Tensor& norm) {
  return at::mul(in_dtype(grad, at::kFloat), adapted).sum(0).div_(norm);
}

}  // namespace ft
