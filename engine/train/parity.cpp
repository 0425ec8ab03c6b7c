#include "engine/train/parity.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>

#include <set>

#include "engine/error/error.h"
#include "engine/parallel/scalar_type.h"

namespace ft {
namespace {

constexpr const char* kGradient = "grad.";

at::Tensor read(const SafetensorsFile& file, const TensorEntry& entry) {
  at::Tensor tensor = at::empty(entry.shape, scalar_type(entry.dtype));
  file.read(entry, 0, {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()});
  return tensor;
}

const TensorEntry& need(const SafetensorsFile& file, const char* name) {
  if (const TensorEntry* entry = file.find(name)) return *entry;
  throw Error(ErrorKind::format, "is missing").at(file.path().string()).key(name).help("docs/models.md shows a script");
}

[[noreturn]] void wrong_shape(const SafetensorsFile& file, const TensorEntry& entry, const std::string& want) {
  throw Error(ErrorKind::format, "got " + shape_text(entry.shape) + " " + to_string(entry.dtype) + ", want " + want)
      .at(file.path().string())
      .key(entry.name);
}

Context context_of(const at::Tensor& tokens) {
  const int64_t rows = tokens.size(0), length = tokens.size(1);
  Context context;
  context.positions = at::arange(length, at::kLong).expand({rows, length}).contiguous();
  context.documents.assign(static_cast<size_t>(rows), {length});
  for (int64_t row = 0; row < rows; ++row) context.rows.push_back(row);
  return context;
}

at::Tensor next_tokens(const at::Tensor& tokens) {
  const int64_t length = tokens.size(1);
  at::Tensor targets = at::full_like(tokens, -100);
  targets.narrow(1, 0, length - 1).copy_(tokens.narrow(1, 1, length - 1));
  return targets;
}

void compare_gradients(ShardedModel& model, const SafetensorsFile& values, Parity& parity) {
  std::set<std::string> trained;
  for (auto& shard : model.shards()) {
    FlatRange* range = shard->trainable();
    if (!range) continue;
    const at::Tensor grad = shard->grad();
    for (const ShardPiece& piece : range->layout.pieces(0)) {
      const std::string& name = piece.parameter->name;
      trained.insert(name);
      const TensorEntry* entry = values.find(kGradient + name);
      if (!entry) {
        parity.missing.push_back(name);
        continue;
      }
      if (entry->shape != piece.parameter->full_shape())
        wrong_shape(values, *entry, shape_text(piece.parameter->full_shape()));
      const at::Tensor want = read(values, *entry).flatten().to(at::kDouble);
      const at::Tensor got = grad.narrow(0, piece.local_begin, piece.count).cpu().to(at::kDouble);
      parity.gradients.push_back({name, got.sub(want).norm().item<double>() / want.norm().item<double>()});
    }
  }
  for (const TensorEntry& entry : values.entries())
    if (entry.name.starts_with(kGradient) && !trained.contains(entry.name.substr(std::string(kGradient).size())))
      throw Error(ErrorKind::format, "is the gradient of no parameter of this model")
          .at(values.path().string())
          .key(entry.name);
}

}  // namespace

Parity measure_parity(ShardedModel& model, const SafetensorsFile& values) {
  const TensorEntry& stored = need(values, "tokens");
  if (stored.dtype != DType::i64 || stored.shape.size() != 2 || stored.shape[0] < 1 || stored.shape[1] < 2)
    wrong_shape(values, stored, "[rows, tokens] int64 of two tokens or more");
  const at::Tensor on_host = read(values, stored), tokens = on_host.to(model.device()->where());
  Context context = context_of(on_host);
  context.positions = context.positions.to(tokens.device());
  Parity parity;
  const TensorEntry& want_loss = need(values, "loss");
  if (want_loss.numel() != 1) wrong_shape(values, want_loss, "one element");
  parity.want_loss = read(values, want_loss).item().toDouble();
  if (const TensorEntry* entry = values.find("logits")) {
    const std::vector<int64_t> shape{tokens.size(0), tokens.size(1), model.model().vocab_size()};
    if (entry->shape != shape) wrong_shape(values, *entry, shape_text(shape));
    const at::Tensor got = model.schedule().forward(tokens, context).cpu();
    parity.logits = got.sub(read(values, *entry)).abs().max().item<double>();
  }
  context.targets = next_tokens(on_host).to(tokens.device());
  context.loss_scale = 1 / static_cast<double>(tokens.size(0) * (tokens.size(1) - 1));
  model.zero_gradients();
  parity.loss = model.schedule().train(tokens, context);
  model.reduce_gradients();
  compare_gradients(model, values, parity);
  return parity;
}

}  // namespace ft
