#include "engine/optim/adamw.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "engine/quant/block8.h"

namespace ft {
namespace {

constexpr int64_t kChunk = 32 * kBlock8;  // 8192 elements: some 130 KB of traffic, small enough to balance 100 threads

update::AdamW constants(const AdamWOptions& options, double lr, int64_t step) {
  const auto t = static_cast<double>(step);
  return {.decay = 0,
          .lr = static_cast<float>(lr),
          .weight_1 = static_cast<float>(1.0 - options.beta1),
          .weight_2 = static_cast<float>(1.0 - options.beta2),
          .correction_1 = static_cast<float>(1.0 - std::pow(options.beta1, t)),
          .root_correction_2 = static_cast<float>(std::sqrt(1.0 - std::pow(options.beta2, t))),
          .eps = static_cast<float>(options.eps)};
}

}  // namespace

FusedAdamW::FusedAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces)
    : options_(options), pieces_(std::move(pieces)), step_(at::scalar_tensor(0.0, at::kFloat)) {
  for (const OptimizerPiece& piece : pieces_) {
    exp_avg_.push_back(at::zeros({piece.count}, at::kFloat));
    exp_avg_sq_.push_back(at::zeros({piece.count}, at::kFloat));
    if (piece.count == 0) continue;  // the rank owns nothing of this parameter: master and grad may be undefined
    Group& group = piece.decay ? with_decay_ : without_decay_;
    group.masters.push_back(piece.master);
    group.grads.push_back(piece.grad);
    group.exp_avgs.push_back(exp_avg_.back());
    group.exp_avg_sqs.push_back(exp_avg_sq_.back());
    group.steps.push_back(step_);
  }
}

void FusedAdamW::step(double lr) {
  step_.fill_(static_cast<double>(++steps));
  for (Group* group : {&with_decay_, &without_decay_}) {
    if (group->masters.empty()) continue;
    at::_fused_adamw_(group->masters, group->grads, group->exp_avgs, group->exp_avg_sqs, /*max_exp_avg_sqs=*/{},
                      group->steps, lr, options_.beta1, options_.beta2,
                      group == &with_decay_ ? options_.weight_decay : 0.0, options_.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
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

BlockAdamW::BlockAdamW(const AdamWOptions& options, std::vector<OptimizerPiece> pieces) : options_(options) {
  for (OptimizerPiece& description : pieces) {
    Piece piece{.description = std::move(description), .quantized = false};
    const int64_t count = piece.description.count;
    piece.quantized = piece.description.numel >= kSmallestQuantized;
    const at::ScalarType dtype = piece.quantized ? at::kByte : at::kFloat;
    piece.exp_avg = at::zeros({count}, dtype);
    piece.exp_avg_sq = at::zeros({count}, dtype);
    if (piece.quantized) {  // code 0 times scale 0: nothing averaged yet
      piece.exp_avg_scale = at::zeros({(count + kBlock8 - 1) / kBlock8}, at::kFloat);
      piece.exp_avg_sq_scale = at::zeros_like(piece.exp_avg_scale);
    }
    for (int64_t first = 0; first < count; first += kChunk)
      chunks_.push_back({pieces_.size(), first, std::min(kChunk, count - first)});
    pieces_.push_back(std::move(piece));
  }
}

void BlockAdamW::update_chunk(const Chunk& chunk, const update::AdamW& step) const {
  const Piece& piece = pieces_[chunk.piece];
  const float* grad = piece.description.grad.const_data_ptr<float>() + chunk.first;
  float* master = piece.description.master.data_ptr<float>() + chunk.first;
  const update::Kernels& kernels = update::kernels();
  if (!piece.quantized) {
    kernels.adamw(step, grad, master, piece.exp_avg.data_ptr<float>() + chunk.first,
                  piece.exp_avg_sq.data_ptr<float>() + chunk.first, chunk.count);
    return;
  }
  uint8_t* mean_codes = piece.exp_avg.data_ptr<uint8_t>() + chunk.first;
  uint8_t* square_codes = piece.exp_avg_sq.data_ptr<uint8_t>() + chunk.first;
  float* mean_scales = piece.exp_avg_scale.data_ptr<float>() + chunk.first / kBlock8;
  float* square_scales = piece.exp_avg_sq_scale.data_ptr<float>() + chunk.first / kBlock8;
  float mean[kBlock8], square[kBlock8];
  for (int64_t i = 0; i < chunk.count; i += kBlock8) {
    const int64_t count = std::min(kBlock8, chunk.count - i), block = i / kBlock8;
    dequantize_block8(Map8::with_sign, mean_codes + i, mean_scales[block], count, mean);
    dequantize_block8(Map8::without_sign, square_codes + i, square_scales[block], count, square);
    kernels.adamw(step, grad + i, master + i, mean, square, count);
    mean_scales[block] = quantize_block8(Map8::with_sign, mean, count, mean_codes + i);
    square_scales[block] = quantize_block8(Map8::without_sign, square, count, square_codes + i);
  }
}

void BlockAdamW::step(double lr) {
  const update::AdamW without_decay = constants(options_, lr, ++steps);
  update::AdamW with_decay = without_decay;
  with_decay.decay = with_decay.lr * static_cast<float>(options_.weight_decay);
  at::parallel_for(0, static_cast<int64_t>(chunks_.size()), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Chunk& chunk = chunks_[static_cast<size_t>(i)];
      update_chunk(chunk, pieces_[chunk.piece].description.decay ? with_decay : without_decay);
    }
  });
}

std::vector<StateTensor> BlockAdamW::state() {
  std::vector<StateTensor> all;
  for (const Piece& piece : pieces_) {
    const OptimizerPiece& d = piece.description;
    if (d.count == 0) continue;
    all.push_back({d.name, "exp_avg", piece.exp_avg, d.begin, d.count, 1});
    all.push_back({d.name, "exp_avg_sq", piece.exp_avg_sq, d.begin, d.count, 1});
    if (!piece.quantized) continue;
    const int64_t begin = d.begin / kBlock8, blocks = piece.exp_avg_scale.numel();
    all.push_back({d.name, "exp_avg_scale", piece.exp_avg_scale, begin, blocks, kBlock8});
    all.push_back({d.name, "exp_avg_sq_scale", piece.exp_avg_sq_scale, begin, blocks, kBlock8});
  }
  return all;
}

}  // namespace ft
