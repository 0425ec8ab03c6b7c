#include "engine/optim/sgd.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>

#include "engine/optim/update_kernels.h"

namespace ft {

Sgd::Sgd(double momentum, std::vector<OptimizerPiece> pieces) : momentum_(momentum), pieces_(std::move(pieces)) {
  if (momentum_ == 0) return;
  for (const OptimizerPiece& piece : pieces_) buffers_.push_back(at::zeros({piece.count}, at::kFloat));
}

void Sgd::step(double lr) {
  ++steps;
  const update::Kernels& kernels = update::kernels();
  const auto rate = static_cast<float>(lr), momentum = static_cast<float>(momentum_);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const OptimizerPiece& piece = pieces_[i];
    if (piece.count == 0) continue;
    const float* grad = piece.grad.const_data_ptr<float>();
    float* master = piece.master.data_ptr<float>();
    float* buffer = buffers_.empty() ? nullptr : buffers_[i].data_ptr<float>();
    at::parallel_for(0, piece.count, /*grain_size=*/16384, [&](int64_t begin, int64_t end) {
      if (buffer) {
        kernels.sgd_momentum(rate, momentum, grad + begin, master + begin, buffer + begin, end - begin);
      } else {
        kernels.sgd(rate, grad + begin, master + begin, end - begin);
      }
    });
  }
}

std::vector<StateTensor> Sgd::state() {
  std::vector<StateTensor> all;
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const OptimizerPiece& piece = pieces_[i];
    if (piece.count > 0) all.push_back({piece.name, "momentum_buffer", buffers_[i], piece.begin, piece.count, 1});
  }
  return all;
}

}  // namespace ft
