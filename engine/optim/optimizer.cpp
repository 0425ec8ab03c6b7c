#include "engine/optim/optimizer.h"

#include "engine/device/cpu_features.h"
#include "engine/error/error.h"
#include "engine/optim/adamw.h"
#include "engine/optim/sgd.h"
#include "engine/optim/update_kernels.h"
#include "engine/quant/block8.h"

namespace ft {
namespace {

[[noreturn]] void refuse(const Value& block, const char* key, const std::string& wanted) {
  const Value* value = block.find(key);
  Error error(ErrorKind::config, "got " + (value ? describe(*value) : std::string("nothing")) + ", want " + wanted);
  error.key(std::string("optimizer.") + key);
  const Origin& origin = value && value->origin.line ? value->origin : block.origin;
  if (origin.line) error.at(origin.str());
  throw error;
}

std::string kind_of(const Value& description) {
  const std::string kind = description.get("kind", "");
  if (kind != "adamw" && kind != "sgd") refuse(description, "kind", "one of 'adamw', 'sgd'");
  return kind;
}

int64_t bits_of(const Value& description) {
  const int64_t bits = description.get("bits", 32);
  if (bits != 32 && bits != 8) refuse(description, "bits", "32 or 8");
  return bits;
}

// A share below 1: a decay of 1 would keep the first gradient for ever and divide by zero.
void check_decay(const Value& description, const char* key, double value) {
  if (!(value >= 0 && value < 1)) refuse(description, key, "0 or more and below 1");
}

AdamWOptions adamw_options(const Value& description) {
  AdamWOptions options;
  if (const Value* betas = description.find("betas")) {
    if (!betas->is_list() || betas->as_list().size() != 2) refuse(description, "betas", "a list of two numbers");
    options.beta1 = betas->as_list()[0].as_number();
    options.beta2 = betas->as_list()[1].as_number();
    check_decay(description, "betas", options.beta1);
    check_decay(description, "betas", options.beta2);
  }
  options.eps = description.get("eps", options.eps);
  if (!(options.eps > 0)) refuse(description, "eps", "more than 0");
  return options;
}

// weight_decay of parameters that decay: matrices. torch.optim's default where the block says none.
void set_weight_decay(const Value& description, std::vector<OptimizerPiece>& pieces) {
  const double decay = description.get("weight_decay", kind_of(description) == "adamw" ? 0.01 : 0.0);
  if (!(decay >= 0)) refuse(description, "weight_decay", "0 or more");
  for (OptimizerPiece& piece : pieces) piece.weight_decay = piece.decay ? decay : 0;
}

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
  const std::string kind = kind_of(description);
  for (const OptimizerPiece& piece : pieces) check_piece(piece);
  set_weight_decay(description, pieces);
  if (kind == "sgd") {
    const double momentum = description.get("momentum", 0.0);
    check_decay(description, "momentum", momentum);
    return std::make_unique<Sgd>(momentum, std::move(pieces));
  }
  const AdamWOptions options = adamw_options(description);
  if (bits_of(description) == 8) return std::make_unique<BlockAdamW>(options, std::move(pieces));
  return std::make_unique<FusedAdamW>(options, std::move(pieces));
}

int64_t optimizer_state_bytes(const Value& description, int64_t numel, int64_t count) {
  if (kind_of(description) == "sgd") return description.get("momentum", 0.0) == 0 ? 0 : 4 * count;
  if (bits_of(description) == 32 || numel < kSmallestQuantized) return 8 * count;
  return 2 * (count + 4 * ((count + kBlock8 - 1) / kBlock8));
}

namespace update {

const Kernels& kernels() {
  switch (cpu_isa()) {
    case Isa::avx512:
      return kAvx512Kernels;
    case Isa::avx2:
      return kAvx2Kernels;
    default:
      return kScalarKernels;
  }
}

Adamw8bit adamw8bit() {
  static const bool vbmi = __builtin_cpu_supports("avx512vbmi");
  return cpu_isa() == Isa::avx512 && vbmi ? kAdamw8bitVbmi : nullptr;
}

}  // namespace update

}  // namespace ft
