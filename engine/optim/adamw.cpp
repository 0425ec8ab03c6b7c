#include "engine/optim/adamw.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <optional>

#include "engine/optim/adamw8bit.h"
#include "engine/quant/block8.h"

namespace ft {
namespace {

at::TensorOptions on_device_of(const OptimizerPiece& piece, at::ScalarType dtype) {
  return at::TensorOptions(dtype).device(piece.count > 0 ? piece.master.device() : at::Device(at::kCPU));
}

std::vector<OptimizerPiece> pieces_of(const std::vector<OptimizerPiece>& all, bool quantized) {
  std::vector<OptimizerPiece> chosen;
  for (const OptimizerPiece& piece : all)
    if (piece.count > 0 && (std::max(piece.numel, piece.whole_numel) >= kSmallestQuantized) == quantized)
      chosen.push_back(piece);
  return chosen;
}

}  // namespace

FusedAdamW::FusedAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces)
    : options_(options), pieces_(std::move(pieces)) {
  for (const OptimizerPiece& piece : pieces_) {
    exp_avg_.push_back(at::zeros({piece.count}, on_device_of(piece, at::kFloat)));
    exp_avg_sq_.push_back(at::zeros_like(exp_avg_.back()));
    if (piece.count == 0) continue;  // the rank owns nothing of this parameter: master and grad are undefined
    if (!step_.defined()) step_ = at::scalar_tensor(0.0, on_device_of(piece, at::kFloat));
    Group& group = group_of(piece);
    group.masters.push_back(piece.master);
    group.grads.push_back(piece.grad);
    group.exp_avgs.push_back(exp_avg_.back());
    group.exp_avg_sqs.push_back(exp_avg_sq_.back());
    group.steps.push_back(step_);
  }
}

FusedAdamW::Group& FusedAdamW::group_of(const OptimizerPiece& piece) {
  for (Group& group : groups_)
    if (group.lr_scale == piece.lr_scale && group.weight_decay == piece.weight_decay) return group;
  groups_.push_back({.lr_scale = piece.lr_scale, .weight_decay = piece.weight_decay});
  return groups_.back();
}

bool FusedAdamW::scale_gradients(double factor) {
  grad_factor_ = factor;
  return true;
}

void FusedAdamW::step(double lr) {
  ++steps;
  // The kernel divides by its scale, as torch.amp.GradScaler has it.
  std::optional<at::Tensor> scale;
  if (grad_factor_ != 1 && step_.defined()) scale = at::scalar_tensor(1 / grad_factor_, step_.options());
  grad_factor_ = 1;
  if (step_.defined()) step_.fill_(static_cast<double>(steps));
  for (Group& group : groups_)
    at::_fused_adamw_(group.masters, group.grads, group.exp_avgs, group.exp_avg_sqs, /*max_exp_avg_sqs=*/{},
                      group.steps, lr * group.lr_scale, options_.beta1, options_.beta2, group.weight_decay,
                      options_.eps, /*amsgrad=*/false, /*maximize=*/false, scale);
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
    : options_(options), pieces_(pieces_of(pieces, true)), small_(options, pieces_of(pieces, false)) {
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

void BlockAdamW::step(double lr) {
  ++steps;
  small_.steps = steps - 1;  // resuming sets `steps` here alone
  small_.step(lr);
  for (size_t i = 0; i < pieces_.size(); ++i) lrs_[i] = lr * pieces_[i].lr_scale;
  ops::adamw8bit_(masters_, grads_, exp_avgs_, exp_avg_sqs_, exp_avg_scales_, exp_avg_sq_scales_, lrs_, weight_decays_,
                  options_.beta1, options_.beta2, options_.eps, steps);
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
