#include "engine/train/sequence_scores.h"

#include <ATen/ops/from_blob.h>

#include "engine/data/token_rows.h"
#include "engine/error/error.h"
#include "engine/train/micro_batch.h"

namespace ft {
namespace {

/// Calls visit(sequence, token) for every target of the batch, tokens counted row after row.
template <class Visit>
int64_t for_each_target(const Batch& batch, const Visit& visit) {
  int64_t sequences = 0;
  size_t at = 0;
  for (const auto& documents : batch.documents)
    for (const int64_t length : documents) {
      bool any = false;
      for (int64_t t = 0; t < length; ++t, ++at)
        if (batch.targets[at] != kIgnoreLabel) any = true, visit(sequences, at);
      sequences += any;
    }
  return sequences;
}

std::vector<double> sums(const Batch& batch, const at::Tensor& log_probs) {
  const at::Tensor host = log_probs.detach().to(at::kCPU).contiguous();
  const float* values = host.const_data_ptr<float>();
  std::vector<double> summed;
  for_each_target(batch, [&](int64_t sequence, size_t token) {
    if (sequence == static_cast<int64_t>(summed.size())) summed.push_back(0);
    summed.back() += static_cast<double>(values[token]);
  });
  return summed;
}

void check_layout(const ShardedModel& model, const char* what) {
  if (model.context_axis().group)
    throw Error(ErrorKind::config, std::string(what) + " of sequences that are split over ranks are not done")
        .key("parallel.mesh.context");
}

void check_reference(ShardedModel& model) {
  bool adapted = false;
  for (const Parameter* p : model.model().parameters()) {
    const bool of_adapter = p->name.find(".lora_") != std::string::npos;
    adapted = adapted || of_adapter;
    if (p->storage == Storage::trainable && !of_adapter)
      throw Error(ErrorKind::config, "the base is trained itself (" + p->name + "), so there is no reference left")
          .key(adapted ? "adapter.modules_to_save" : "adapter")
          .help("train an adapter alone: adapter = ft.lora { … } without modules_to_save");
  }
}

}  // namespace

std::vector<double> sequence_log_probs(ShardedModel& model, const Batch& batch, bool adapter) {
  check_layout(model, "log-probabilities");
  if (!adapter) check_reference(model);
  MicroBatch made = micro_batch(batch, model.context_axis(), model.device()->where());
  made.context.log_probs = true;
  made.context.adapter = adapter;
  return sums(batch, model.schedule().forward(made.tokens, made.context));
}

double train_on_sequences(ShardedModel& model, const Batch& batch, const Context& context,
                          const SequenceLossOf& loss_of) {
  check_layout(model, "losses");
  MicroBatch made = micro_batch(batch, model.context_axis(), model.device()->where());
  made.context.log_probs = true;
  made.context.training = context.training;
  made.context.seed = context.seed;
  made.context.step = context.step;
  double value = 0;
  model.schedule().train(made.tokens, made.context, [&](const at::Tensor& log_probs) {
    const SequenceLoss loss = loss_of(sums(batch, log_probs));
    value = loss.value;
    std::vector<float> grads(batch.targets.size(), 0.f);
    const int64_t sequences = for_each_target(batch, [&](int64_t sequence, size_t token) {
      if (sequence < static_cast<int64_t>(loss.gradient.size()))
        grads[token] = static_cast<float>(context.loss_scale * loss.gradient[static_cast<size_t>(sequence)]);
    });
    if (sequences != static_cast<int64_t>(loss.gradient.size()))
      throw Error(ErrorKind::config, "the loss returned " + std::to_string(loss.gradient.size()) + " gradients for " +
                                         std::to_string(sequences) + " sequences");
    return at::from_blob(grads.data(), {batch.rows, batch.length}, at::kFloat)
        .to(log_probs.device(), at::kFloat, false, true);
  });
  return value;
}

}  // namespace ft
