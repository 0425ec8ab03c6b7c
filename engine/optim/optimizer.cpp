#include "engine/optim/optimizer.h"

#include <algorithm>

#include "engine/device/cpu_features.h"
#include "engine/error/error.h"
#include "engine/optim/adafactor.h"
#include "engine/optim/adamw.h"
#include "engine/optim/muon.h"
#include "engine/optim/parameter_groups.h"
#include "engine/optim/sgd.h"
#include "engine/optim/update_kernels.h"
#include "engine/quant/block8.h"

namespace ft {
namespace {

void check_piece(const OptimizerPiece& piece) {
  FT_CHECK(piece.begin >= 0 && piece.count >= 0 && piece.begin + piece.count <= piece.numel,
           piece.name + ": a piece reaches beyond its parameter");
  if (piece.count == 0) return;
  FT_CHECK(piece.begin % kBlock8 == 0 && (piece.count % kBlock8 == 0 || piece.begin + piece.count == piece.numel),
           piece.name + ": a piece cuts a block of 256 elements");
  for (const at::Tensor* tensor : {&piece.master, &piece.grad}) {
    FT_CHECK(tensor->defined() && tensor->scalar_type() == at::kFloat && tensor->numel() == piece.count &&
                 tensor->is_contiguous() && tensor->device() == piece.master.device(),
             piece.name + ": masters and gradients are contiguous fp32 vectors of the piece, on one device");
  }
}

}  // namespace

int64_t Optimizer::state_bytes() {
  int64_t bytes = 0;
  for (const StateTensor& tensor : state()) bytes += static_cast<int64_t>(tensor.value.nbytes());
  return bytes;
}

std::unique_ptr<Optimizer> build_optimizer(const Value& description, std::vector<OptimizerPiece> pieces,
                                           ProcessGroup* group) {
  const OptimizerOptions options = optimizer_options(description);
  for (OptimizerPiece& piece : pieces) {
    check_piece(piece);
    piece.lr_scale = options.kind == OptimizerKind::muon && !Muon::takes(piece) ? options.muon.adamw_lr_scale : 1;
  }
  apply_groups(description, options, pieces);
  switch (options.kind) {
    case OptimizerKind::sgd:
      return std::make_unique<Sgd>(options.sgd, std::move(pieces));
    case OptimizerKind::lion:
      return std::make_unique<Lion>(options.lion, std::move(pieces));
    case OptimizerKind::adafactor:
      return std::make_unique<Adafactor>(options.adafactor, std::move(pieces), group);
    case OptimizerKind::muon:
      return std::make_unique<Muon>(options, std::move(pieces), group);
    case OptimizerKind::adamw:
      break;
  }
  if (options.adamw.quantized) return std::make_unique<BlockAdamW>(options.adamw, std::move(pieces));
  return std::make_unique<FusedAdamW>(options.adamw, std::move(pieces));
}

int64_t optimizer_state_bytes(const Value& description, const OptimizerPiece& piece) {
  const OptimizerOptions options = optimizer_options(description);
  const int64_t fp32 = 4 * piece.count;
  if (piece.count == 0) return 0;
  switch (options.kind) {
    case OptimizerKind::sgd:
      return options.sgd.momentum == 0 ? 0 : fp32;
    case OptimizerKind::lion:
      return fp32;
    case OptimizerKind::adafactor:
      return (Adafactor::factors(piece) ? 4 * (piece.shape[0] + piece.shape[1]) : fp32) +
             (options.adafactor.beta1 > 0 ? fp32 : 0);
    case OptimizerKind::muon:
      if (Muon::takes(piece)) return fp32;
      break;
    case OptimizerKind::adamw:
      break;
  }
  if (!options.adamw.quantized || std::max(piece.numel, piece.whole_numel) < kSmallestQuantized) return 2 * fp32;
  return 2 * (piece.count + 4 * ((piece.count + kBlock8 - 1) / kBlock8));
}

int64_t optimizer_step_bytes(const Value& description, const std::vector<OptimizerPiece>& pieces) {
  const OptimizerKind kind = optimizer_options(description).kind;
  if (kind == OptimizerKind::muon) return Muon::step_bytes(pieces);
  return kind == OptimizerKind::adafactor ? Adafactor::step_bytes(pieces) : 0;
}

namespace update {

const Kernels& kernels() { return for_isa(kScalarKernels, kAvx2Kernels, kAvx512Kernels); }

Adamw8bit adamw8bit() {
  static const bool vbmi = __builtin_cpu_supports("avx512vbmi");
  return cpu_isa() == Isa::avx512 && vbmi ? kAdamw8bitVbmi : nullptr;
}

}  // namespace update

}  // namespace ft
