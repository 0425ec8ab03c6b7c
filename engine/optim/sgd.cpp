#include "engine/optim/sgd.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>

#include "engine/optim/update_kernels.h"

namespace ft {
namespace {

constexpr int64_t kGrain = 16384;

std::vector<at::Tensor> zeros_like_pieces(const std::vector<OptimizerPiece>& pieces) {
  std::vector<at::Tensor> all;
  for (const OptimizerPiece& piece : pieces)
    all.push_back(at::zeros({piece.count}, piece.count > 0 ? piece.master.options() : at::TensorOptions(at::kFloat)));
  return all;
}

std::vector<StateTensor> state_of(const std::vector<OptimizerPiece>& pieces, const char* key,
                                  const std::vector<at::Tensor>& values) {
  std::vector<StateTensor> all;
  for (size_t i = 0; i < values.size(); ++i)
    if (pieces[i].count > 0) all.push_back({pieces[i].name, key, values[i], pieces[i].begin, pieces[i].count, 1});
  return all;
}

// Elsewhere than on the CPU: ATen's ops, one after another.
void step_by_ops(const update::Sgd& s, const OptimizerPiece& piece, const at::Tensor& buffer) {
  at::Tensor direction = piece.grad;
  if (s.weight_decay != 0) direction = direction.add(piece.master, s.weight_decay);
  if (buffer.defined()) {
    buffer.mul_(s.momentum).add_(direction);
    direction = s.nesterov ? direction.add(buffer, s.momentum) : buffer;
  }
  piece.master.add_(direction, -s.lr);
}

void step_by_ops(const update::Lion& s, const OptimizerPiece& piece, const at::Tensor& mean) {
  const at::Tensor direction = mean.lerp(piece.grad, s.weight_1).sign_();
  piece.master.mul_(s.keep).add_(direction, -s.lr);
  mean.lerp_(piece.grad, s.weight_2);
}

}  // namespace

Sgd::Sgd(const SgdOptions& options, std::vector<OptimizerPiece> pieces)
    : ElementwiseOptimizer(pieces.size()), options_(options), pieces_(std::move(pieces)) {
  if (options_.momentum != 0) buffers_ = zeros_like_pieces(pieces_);
}

void Sgd::step_pieces(size_t first, size_t count) {
  const update::Kernels& kernels = update::kernels();
  for (size_t i = first; i < first + count; ++i) {
    const OptimizerPiece& piece = pieces_[i];
    if (piece.count == 0) continue;
    const update::Sgd s{static_cast<float>(lr_ * piece.lr_scale), static_cast<float>(piece.weight_decay),
                        static_cast<float>(options_.momentum), options_.nesterov};
    const at::Tensor state = buffers_.empty() ? at::Tensor() : buffers_[i];
    if (!piece.master.is_cpu()) {
      step_by_ops(s, piece, state);
      continue;
    }
    const float* grad = piece.grad.const_data_ptr<float>();
    float* master = piece.master.data_ptr<float>();
    float* buffer = state.defined() ? state.data_ptr<float>() : nullptr;
    at::parallel_for(0, piece.count, kGrain, [&](int64_t begin, int64_t end) {
      if (buffer) {
        kernels.sgd_momentum(s, grad + begin, master + begin, buffer + begin, end - begin);
      } else {
        kernels.sgd(s, grad + begin, master + begin, end - begin);
      }
    });
  }
}

std::vector<StateTensor> Sgd::state() { return state_of(pieces_, "momentum_buffer", buffers_); }

Lion::Lion(const LionOptions& options, std::vector<OptimizerPiece> pieces)
    : ElementwiseOptimizer(pieces.size()),
      options_(options),
      pieces_(std::move(pieces)),
      exp_avg_(zeros_like_pieces(pieces_)) {}

void Lion::step_pieces(size_t first, size_t count) {
  const update::Kernels& kernels = update::kernels();
  for (size_t i = first; i < first + count; ++i) {
    const OptimizerPiece& piece = pieces_[i];
    if (piece.count == 0) continue;
    const double rate = lr_ * piece.lr_scale;
    const update::Lion s{static_cast<float>(1.0 - rate * piece.weight_decay), static_cast<float>(rate),
                         static_cast<float>(1.0 - options_.beta1), static_cast<float>(1.0 - options_.beta2)};
    if (!piece.master.is_cpu()) {
      step_by_ops(s, piece, exp_avg_[i]);
      continue;
    }
    const float* grad = piece.grad.const_data_ptr<float>();
    float* master = piece.master.data_ptr<float>();
    float* mean = exp_avg_[i].data_ptr<float>();
    at::parallel_for(0, piece.count, kGrain, [&](int64_t begin, int64_t end) {
      kernels.lion(s, grad + begin, master + begin, mean + begin, end - begin);
    });
  }
}

std::vector<StateTensor> Lion::state() { return state_of(pieces_, "exp_avg", exp_avg_); }

}  // namespace ft
