#include "engine/optim/muon.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "engine/optim/adamw.h"

namespace ft {
namespace {

constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;  // torch/optim/_muon.py, after K. Jordan's post
constexpr int64_t kWindow = int64_t{1} << 25;             // elements that meet at a time: 128 MB

at::TensorOptions options_of(const OptimizerPiece& piece) {
  return piece.master.defined() ? piece.master.options() : at::TensorOptions(at::kFloat);
}

std::unique_ptr<Optimizer> adamw_of_rest(const OptimizerOptions& options, const std::vector<OptimizerPiece>& pieces) {
  std::vector<OptimizerPiece> rest;
  for (const OptimizerPiece& piece : pieces)
    if (!Muon::takes(piece)) rest.push_back(piece);
  if (options.adamw.quantized) return std::make_unique<BlockAdamW>(options.adamw, std::move(rest));
  return std::make_unique<FusedAdamW>(options.adamw, std::move(rest));
}

std::vector<OptimizerPiece> matrices_of(std::vector<OptimizerPiece> pieces) {
  std::erase_if(pieces, [](const OptimizerPiece& piece) { return !Muon::takes(piece); });
  return pieces;
}

}  // namespace

at::Tensor newton_schulz(const at::Tensor& x, int64_t steps, double eps) {
  const bool tall = x.size(0) > x.size(1);
  at::Tensor y = tall ? x.t().contiguous() : x.contiguous();
  y = y.div(at::linalg_vector_norm(y, 2, std::nullopt, false, at::kDouble).clamp_min(eps).to(at::kFloat));
  for (int64_t i = 0; i < steps; ++i) {
    const at::Tensor gram = at::mm(y, y.t());
    y = at::addmm(y, at::addmm(gram, gram, gram, kB, kC), y, kA, 1);
  }
  return tall ? y.t().contiguous() : y;
}

Muon::Muon(const OptimizerOptions& options, std::vector<OptimizerPiece> pieces, ProcessGroup* group)
    : options_(options.muon),
      group_(group && group->size() > 1 ? group : nullptr),
      pieces_(matrices_of(pieces)),
      map_(pieces_, group_),
      rest_(adamw_of_rest(options, pieces)) {
  for (const OptimizerPiece& piece : pieces_) buffers_.push_back(at::zeros({piece.count}, options_of(piece)));
}

/// Moves the momentum on and returns this rank's part of the matrix to orthogonalise.
at::Tensor Muon::direction(size_t index) const {
  const at::Tensor &grad = pieces_[index].grad, &buffer = buffers_[index];
  buffer.lerp_(grad, 1 - options_.momentum);
  return options_.nesterov ? grad.lerp(buffer, options_.momentum) : buffer.clone();
}

/// Who orthogonalises what: a matrix of one rank stays there, a shared one goes to the rank with the least to do so
/// far. The same on every rank.
std::vector<Muon::Update> Muon::share_out(size_t begin, size_t end) const {
  std::vector<double> load(static_cast<size_t>(group_ ? group_->size() : 1), 0.0);
  std::vector<Update> updates;
  for (const bool shared : {false, true}) {
    for (size_t i = begin; i < end; ++i) {
      if (map_.cut(i) != shared) continue;
      const OptimizerPiece& piece = pieces_[i];
      const auto least = std::min_element(load.begin(), load.end()) - load.begin();
      const int worker = shared ? static_cast<int>(least) : map_.parts(i)[0].rank;
      load[static_cast<size_t>(worker)] +=
          static_cast<double>(piece.numel) * static_cast<double>(std::min(piece.shape[0], piece.shape[1]));
      updates.push_back({i, worker, {}});
    }
  }
  return updates;
}

/// Every owner tells its part of the shared matrices. All ranks hear it: a broadcast is what groups have.
void Muon::gather(std::vector<Update>& updates) {
  std::vector<Pending> pending;
  for (Update& update : updates) {
    const OptimizerPiece& piece = pieces_[update.index];
    const at::Tensor own = piece.count > 0 ? direction(update.index) : at::Tensor();
    if (!map_.cut(update.index)) {
      update.whole = own;
      continue;
    }
    update.whole = at::empty({piece.numel}, buffers_[update.index].options());
    for (const PieceMap::Part& part : map_.parts(update.index)) {
      const at::Tensor slice = update.whole.narrow(0, part.begin, part.count);
      if (part.rank == rank()) slice.copy_(own);
      pending.push_back(group_->broadcast(slice, part.rank));
    }
  }
  for (Pending& one : pending) one.wait();
}

void Muon::apply(double lr, const Update& update) {
  const OptimizerPiece& piece = pieces_[update.index];
  if (piece.count == 0) return;
  const double rows = static_cast<double>(piece.shape[0]), columns = static_cast<double>(piece.shape[1]);
  const double ratio =
      options_.match_rms_adamw ? 0.2 * std::sqrt(std::max(rows, columns)) : std::sqrt(std::max(1.0, rows / columns));
  const double rate = lr * piece.lr_scale;
  piece.master.mul_(1 - rate * piece.weight_decay);
  piece.master.add_(update.whole.narrow(0, piece.begin, piece.count), -rate * ratio);
}

void Muon::step_window(double lr, size_t begin, size_t end) {
  std::vector<Update> updates = share_out(begin, end);
  gather(updates);
  for (Update& update : updates) {
    if (update.worker != rank()) continue;
    const at::Tensor made =
        newton_schulz(update.whole.view(pieces_[update.index].shape), options_.ns_steps, options_.eps);
    update.whole.copy_(made.view({-1}));
  }
  std::vector<Pending> pending;
  for (const Update& update : updates)
    if (map_.cut(update.index)) pending.push_back(group_->broadcast(update.whole, update.worker));
  for (Pending& one : pending) one.wait();
  for (const Update& update : updates) apply(lr, update);
}

void Muon::step(double lr) {
  ++steps;
  rest_->steps = steps - 1;  // resuming sets `steps` here alone
  rest_->step(lr);
  for (size_t begin = 0; begin < pieces_.size();) {
    size_t end = begin;
    for (int64_t elements = 0; end < pieces_.size() && (end == begin || elements < kWindow); ++end)
      elements += pieces_[end].numel;
    step_window(lr, begin, end);
    begin = end;
  }
}

// A window's matrices, and beside them what the largest one's iteration takes: its norm a copy in fp64, a turn two of
// its size and two Gram matrices.
int64_t Muon::step_bytes(const std::vector<OptimizerPiece>& pieces) {
  int64_t most = 0, window = 0, elements = 0, direction = 0, iteration = 0;
  for (const OptimizerPiece& piece : matrices_of(pieces)) {
    const int64_t less = std::min(piece.shape[0], piece.shape[1]);
    window += 4 * (piece.cut ? piece.numel : piece.count);
    direction = std::max(direction, 4 * piece.count);
    iteration = std::max(
        {iteration, (piece.shape[0] > piece.shape[1] ? 12 : 8) * piece.numel, 8 * piece.numel + 8 * less * less});
    most = std::max(most, window + std::max(direction, iteration));
    if ((elements += piece.numel) >= kWindow) window = elements = direction = iteration = 0;
  }
  return most;
}

std::vector<StateTensor> Muon::state() {
  std::vector<StateTensor> all = rest_->state();
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const OptimizerPiece& p = pieces_[i];
    if (p.count > 0) all.push_back({p.name, "momentum_buffer", buffers_[i], p.begin, p.count, 1});
  }
  return all;
}

}  // namespace ft
