#include "engine/optim/adafactor.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

namespace ft {
namespace {

/// A rectangle of a matrix: rows [r0, r1), columns [c0, c1), whose elements lie at [offset, …) of the piece, row by
/// row.
struct Box {
  int64_t r0, r1, c0, c1, offset;

  at::Tensor of(const at::Tensor& flat) const {
    return flat.narrow(0, offset, (r1 - r0) * (c1 - c0)).view({r1 - r0, c1 - c0});
  }
};

/// The rectangles that a flat range of a matrix comes to: a row's rest, whole rows, a row's beginning.
std::vector<Box> boxes(const OptimizerPiece& piece) {
  const int64_t width = piece.shape[1];
  std::vector<Box> all;
  for (int64_t at = piece.begin; at < piece.begin + piece.count;) {
    const int64_t left = piece.begin + piece.count - at, row = at / width, column = at % width;
    if (column == 0 && left >= width) {
      all.push_back({row, row + left / width, 0, width, at - piece.begin});
      at += left / width * width;
    } else {
      const int64_t columns = std::min(left, width - column);
      all.push_back({row, row + 1, column, column + columns, at - piece.begin});
      at += columns;
    }
  }
  return all;
}

double sum_of_squares(const at::Tensor& x) { return at::sum(x.square(), at::kDouble).item<double>(); }

}  // namespace

Adafactor::Adafactor(const AdafactorOptions& options, std::vector<OptimizerPiece> pieces, ProcessGroup* group)
    : options_(options),
      group_(group && group->size() > 1 ? group : nullptr),
      pieces_(std::move(pieces)),
      map_(pieces_, group_),
      states_(pieces_.size()) {
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const OptimizerPiece& piece = pieces_[i];
    if (piece.count == 0) continue;
    State& state = states_[i];
    if (factors(piece)) {
      state.row = at::zeros({piece.shape[0]}, piece.master.options());
      state.col = at::zeros({piece.shape[1]}, piece.master.options());
    } else {
      state.exp_avg_sq = at::zeros({piece.count}, piece.master.options());
    }
    if (options_.beta1 > 0) state.exp_avg = at::zeros({piece.count}, piece.master.options());
  }
}

/// @param sums fp64 on the host
void Adafactor::sum_over_ranks(const at::Tensor& sums) const {
  if (group_ && sums.numel() > 0) group_->all_reduce_sum(sums).wait();
}

/// Every parameter's second average, or its row and column means.
void Adafactor::update_averages(double beta2) {
  int64_t entries = 0;  // row and column sums of all matrices
  for (const OptimizerPiece& piece : pieces_)
    if (factors(piece)) entries += piece.shape[0] + piece.shape[1];
  const at::Tensor sums = at::zeros({entries}, at::kDouble);
  int64_t at = 0;
  const auto each_matrix = [&](const auto& act) {
    at = 0;
    for (size_t i = 0; i < pieces_.size(); ++i) {
      const OptimizerPiece& piece = pieces_[i];
      if (!factors(piece)) continue;
      const int64_t rows = piece.shape[0], columns = piece.shape[1];
      if (piece.count > 0) act(i, sums.narrow(0, at, rows), sums.narrow(0, at + rows, columns));
      at += rows + columns;
    }
  };
  each_matrix([&](size_t i, const at::Tensor& row, const at::Tensor& col) {
    const at::Tensor square = pieces_[i].grad.square().add_(options_.eps_square);
    for (const Box& box : boxes(pieces_[i])) {
      const at::Tensor part = box.of(square);
      row.narrow(0, box.r0, box.r1 - box.r0).add_(at::sum(part, {1}, false, at::kDouble).cpu());
      col.narrow(0, box.c0, box.c1 - box.c0).add_(at::sum(part, {0}, false, at::kDouble).cpu());
    }
  });
  sum_over_ranks(sums);
  each_matrix([&](size_t i, const at::Tensor& row, const at::Tensor& col) {
    State& state = states_[i];
    const auto mean = [&](const at::Tensor& sum, int64_t count) {
      return sum.div(static_cast<double>(count)).to(state.row.device(), at::kFloat);
    };
    state.row.mul_(beta2).add_(mean(row, pieces_[i].shape[1]), 1 - beta2);
    state.col.mul_(beta2).add_(mean(col, pieces_[i].shape[0]), 1 - beta2);
  });
  for (size_t i = 0; i < pieces_.size(); ++i)
    if (states_[i].exp_avg_sq.defined())
      states_[i].exp_avg_sq.mul_(beta2).add_(pieces_[i].grad.square().add_(options_.eps_square), 1 - beta2);
}

/// The gradient over the root of its second average, before clipping.   @return fp32 [count]
at::Tensor Adafactor::direction(size_t index) const {
  const State& state = states_[index];
  const at::Tensor& grad = pieces_[index].grad;
  if (state.exp_avg_sq.defined()) return state.exp_avg_sq.rsqrt().mul_(grad);
  const at::Tensor row = state.row.div(state.row.mean()).rsqrt_(), col = state.col.rsqrt();
  at::Tensor out = at::empty_like(grad);
  for (const Box& box : boxes(pieces_[index])) {
    const at::Tensor factor =
        row.narrow(0, box.r0, box.r1 - box.r0).unsqueeze(1).mul(col.narrow(0, box.c0, box.c1 - box.c0).unsqueeze(0));
    box.of(out).copy_(factor.mul_(box.of(grad)));
  }
  return out;
}

void Adafactor::step(double lr) {
  ++steps;
  update_averages(1.0 - std::pow(static_cast<double>(steps), options_.decay_rate));
  const auto count = static_cast<int64_t>(pieces_.size());
  const at::Tensor squares = at::zeros({2 * count}, at::kDouble);  // of each direction and each parameter
  double* sums = squares.data_ptr<double>();
  for (size_t i = 0; i < pieces_.size(); ++i) {
    if (pieces_[i].count == 0) continue;
    sums[2 * i] = sum_of_squares(direction(i));
    if (options_.scale_parameter) sums[2 * i + 1] = sum_of_squares(pieces_[i].master);
  }
  sum_over_ranks(squares);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const OptimizerPiece& piece = pieces_[i];
    if (piece.count == 0) continue;
    const auto numel = static_cast<double>(piece.numel);
    const double clip = std::max(1.0, std::sqrt(sums[2 * i] / numel) / options_.clip_threshold);
    double rate = lr * piece.lr_scale;
    if (options_.scale_parameter) rate *= std::max(options_.eps_scale, std::sqrt(sums[2 * i + 1] / numel));
    at::Tensor update = direction(i).mul_(rate / clip);
    if (options_.beta1 > 0) update = states_[i].exp_avg.mul_(options_.beta1).add_(update, 1 - options_.beta1);
    if (piece.weight_decay != 0) piece.master.mul_(1 - piece.weight_decay * rate);
    piece.master.sub_(update);
  }
}

// A direction, its squares, and their copy in fp64, which LibTorch sums.
int64_t Adafactor::step_bytes(const std::vector<OptimizerPiece>& pieces) {
  int64_t largest = 0;
  for (const OptimizerPiece& piece : pieces) largest = std::max(largest, piece.count);
  return 16 * largest;
}

std::vector<StateTensor> Adafactor::state() {
  std::vector<StateTensor> all;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const OptimizerPiece& p = pieces_[i];
    const State& state = states_[i];
    if (p.count == 0) continue;
    if (factors(p)) {
      const int64_t rows = p.shape[0], columns = p.shape[1];
      all.push_back({p.name, "exp_avg_sq_row", state.row, 0, rows, columns, p.begin == 0});
      all.push_back({p.name, "exp_avg_sq_col", state.col, 0, columns, rows, p.begin == 0});
    } else {
      all.push_back({p.name, "exp_avg_sq", state.exp_avg_sq, p.begin, p.count, 1});
    }
    if (state.exp_avg.defined()) all.push_back({p.name, "exp_avg", state.exp_avg, p.begin, p.count, 1});
  }
  return all;
}

}  // namespace ft
