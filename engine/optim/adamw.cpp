#include "engine/optim/adamw.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "engine/optim/adamw8bit.h"
#include "engine/quant/block8.h"

namespace ft {
namespace {

at::TensorOptions on_device_of(const OptimizerPiece& piece, at::ScalarType dtype) {
  return at::TensorOptions(dtype).device(piece.count > 0 ? piece.master.device() : at::Device(at::kCPU));
}

// Which of all pieces keep 8-bit state, or which do not: those that are not empty.
std::vector<size_t> numbers_of(const std::vector<OptimizerPiece>& all, bool quantized) {
  std::vector<size_t> numbers;
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i].count > 0 && (std::max(all[i].numel, all[i].whole_numel) >= kSmallestQuantized) == quantized)
      numbers.push_back(i);
  return numbers;
}

std::vector<OptimizerPiece> pieces_of(const std::vector<OptimizerPiece>& all, const std::vector<size_t>& numbers) {
  std::vector<OptimizerPiece> chosen;
  for (const size_t number : numbers) chosen.push_back(all[number]);
  return chosen;
}

struct Stretch {
  size_t first, count;
};

// Where those of [first, first + count) stand among the chosen ones.
Stretch among(const std::vector<size_t>& numbers, size_t first, size_t count) {
  const auto begin = std::lower_bound(numbers.begin(), numbers.end(), first);
  const auto end = std::lower_bound(begin, numbers.end(), first + count);
  return {static_cast<size_t>(begin - numbers.begin()), static_cast<size_t>(end - begin)};
}

// Tensors of pieces that one call of the fused kernel takes.
struct Group {
  double lr_scale, weight_decay;
  std::vector<at::Tensor> masters{}, grads{}, exp_avgs{}, exp_avg_sqs{}, steps{};
};

Group& group_of(std::vector<Group>& groups, const OptimizerPiece& piece) {
  for (Group& group : groups)
    if (group.lr_scale == piece.lr_scale && group.weight_decay == piece.weight_decay) return group;
  groups.push_back({.lr_scale = piece.lr_scale, .weight_decay = piece.weight_decay});
  return groups.back();
}

}  // namespace

FusedAdamW::FusedAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces)
    : ElementwiseOptimizer(pieces.size()), options_(options), pieces_(std::move(pieces)) {
  for (const OptimizerPiece& piece : pieces_) {
    exp_avg_.push_back(at::zeros({piece.count}, on_device_of(piece, at::kFloat)));
    exp_avg_sq_.push_back(at::zeros_like(exp_avg_.back()));
    if (piece.count > 0 && !step_.defined()) step_ = at::scalar_tensor(0.0, on_device_of(piece, at::kFloat));
  }
}

bool FusedAdamW::scale_gradients(double factor) {
  grad_factor_ = factor;
  return true;
}

void FusedAdamW::begin_step(double lr) {
  ElementwiseOptimizer::begin_step(lr);
  // The kernel divides by its scale, as torch.amp.GradScaler has it.
  grad_scale_.reset();
  if (grad_factor_ != 1 && step_.defined()) grad_scale_ = at::scalar_tensor(1 / grad_factor_, step_.options());
  grad_factor_ = 1;
  if (step_.defined()) step_.fill_(static_cast<double>(steps));
}

void FusedAdamW::step_pieces(size_t first, size_t count) {
  std::vector<Group> groups;
  for (size_t i = first; i < first + count; ++i) {
    if (pieces_[i].count == 0) continue;  // the rank owns nothing of this parameter: its gradient is undefined
    Group& group = group_of(groups, pieces_[i]);
    group.masters.push_back(pieces_[i].master);
    group.grads.push_back(pieces_[i].grad);
    group.exp_avgs.push_back(exp_avg_[i]);
    group.exp_avg_sqs.push_back(exp_avg_sq_[i]);
    group.steps.push_back(step_);
  }
  for (Group& group : groups)
    at::_fused_adamw_(group.masters, group.grads, group.exp_avgs, group.exp_avg_sqs, /*max_exp_avg_sqs=*/{},
                      group.steps, lr_ * group.lr_scale, options_.beta1, options_.beta2, group.weight_decay,
                      options_.eps, /*amsgrad=*/false, /*maximize=*/false, grad_scale_);
}

std::vector<StateTensor> FusedAdamW::state() {
  std::vector<StateTensor> all;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const OptimizerPiece& piece = pieces_[i];
    if (piece.count == 0) continue;
    all.push_back({piece.name, "exp_avg", exp_avg_[i], piece.begin, piece.count, 1});
    all.push_back({piece.name, "exp_avg_sq", exp_avg_sq_[i], piece.begin, piece.count, 1});
  }
  return all;
}

BlockAdamW::BlockAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces)
    : ElementwiseOptimizer(pieces.size()),
      options_(options),
      numbers_(numbers_of(pieces, true)),
      small_numbers_(numbers_of(pieces, false)),
      pieces_(pieces_of(pieces, numbers_)),
      small_(options, pieces_of(pieces, small_numbers_)) {
  for (const OptimizerPiece& piece : pieces_) {
    masters_.push_back(piece.master);
    grads_.push_back(piece.grad);
    // Code 0 times scale 0: nothing averaged yet.
    exp_avgs_.push_back(at::zeros({piece.count}, on_device_of(piece, at::kByte)));
    exp_avg_sqs_.push_back(at::zeros_like(exp_avgs_.back()));
    exp_avg_scales_.push_back(at::zeros({(piece.count + kBlock8 - 1) / kBlock8}, on_device_of(piece, at::kFloat)));
    exp_avg_sq_scales_.push_back(at::zeros_like(exp_avg_scales_.back()));
    weight_decays_.push_back(piece.weight_decay);
  }
  lrs_.resize(pieces_.size());
}

void BlockAdamW::begin_step(double lr) {
  ElementwiseOptimizer::begin_step(lr);
  small_.steps = steps - 1;  // resuming sets `steps` here alone
  small_.begin_step(lr);
  for (size_t i = 0; i < pieces_.size(); ++i) lrs_[i] = lr * pieces_[i].lr_scale;
}

void BlockAdamW::step_pieces(size_t first, size_t count) {
  const Stretch few = among(small_numbers_, first, count), s = among(numbers_, first, count);
  small_.step_pieces(few.first, few.count);
  const auto part = [&](const std::vector<at::Tensor>& all) { return at::TensorList(all).slice(s.first, s.count); };
  ops::adamw8bit_(part(masters_), part(grads_), part(exp_avgs_), part(exp_avg_sqs_), part(exp_avg_scales_),
                  part(exp_avg_sq_scales_), at::ArrayRef<double>(lrs_).slice(s.first, s.count),
                  at::ArrayRef<double>(weight_decays_).slice(s.first, s.count), options_.beta1, options_.beta2,
                  options_.eps, steps);
}

std::vector<StateTensor> BlockAdamW::state() {
  std::vector<StateTensor> all = small_.state();
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const OptimizerPiece& p = pieces_[i];
    const int64_t begin = p.begin / kBlock8, blocks = exp_avg_scales_[i].numel();
    all.push_back({p.name, "exp_avg", exp_avgs_[i], p.begin, p.count, 1});
    all.push_back({p.name, "exp_avg_sq", exp_avg_sqs_[i], p.begin, p.count, 1});
    all.push_back({p.name, "exp_avg_scale", exp_avg_scales_[i], begin, blocks, kBlock8});
    all.push_back({p.name, "exp_avg_sq_scale", exp_avg_sq_scales_[i], begin, blocks, kBlock8});
  }
  return all;
}

}  // namespace ft
