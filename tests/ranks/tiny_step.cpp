#include "tests/ranks/tiny_step.h"

#include <ATen/ops/equal.h>

#include <algorithm>
#include <cmath>

namespace ft::test {

Batch joined(const std::vector<Batch>& rows) {
  Batch all;
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (const Batch& one : rows) {
    all.rows += one.rows;
    all.length = one.length;
    append(all.tokens, one.tokens);
    append(all.targets, one.targets);
    append(all.positions, one.positions);
    append(all.documents, one.documents);
    append(all.row_ids, one.row_ids);
    all.num_targets += one.num_targets;
  }
  return all;
}

void set_step(MicroBatch& made, int64_t step, double tokens) {
  made.context.training = true;
  made.context.seed = 5;
  made.context.step = step;
  made.context.loss_scale = 1 / tokens;
}

double grad_norm(ShardedModel& model) {
  double squares = 0;
  for (auto& shard : model.shards())
    if (shard->grad().defined()) squares += std::pow(shard->grad().to(at::kDouble).norm().item<double>(), 2);
  return std::sqrt(model.group().sum(squares) / model.replicas().size());
}

std::vector<at::Tensor> copied_state(ShardedModel& model, Optimizer& optimizer) {
  std::vector<at::Tensor> state;
  for (auto& shard : model.shards())
    if (const FlatRange* range = shard->trainable()) state.push_back(range->owned.clone());
  for (const StateTensor& tensor : optimizer.state()) state.push_back(tensor.value.clone());
  return state;
}

bool same_bits(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  return !a.empty() && std::equal(a.begin(), a.end(), b.begin(), b.end(),
                                  [](const at::Tensor& x, const at::Tensor& y) { return at::equal(x, y); });
}

double worst(const std::vector<double>& found, const std::vector<double>& want) {
  double most = found.size() == want.size() && !want.empty() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(found.size(), want.size()); ++i) {
    const double difference = std::abs(found[i] - want[i]) / std::abs(want[i]);
    most = std::isfinite(difference) ? std::max(most, difference) : INFINITY;
  }
  return most;
}

Value adamw() { return Value::map({{"kind", "adamw"}, {"lr", 1e-3}, {"weight_decay", 0.0}}); }
Value adamw8() { return Value::map({{"kind", "adamw"}, {"lr", 1e-3}, {"weight_decay", 0.0}, {"bits", 8}}); }
Value sgd() { return Value::map({{"kind", "sgd"}, {"lr", 0.5}}); }
Value full(Value optimizer) { return Value::map({{"optimizer", std::move(optimizer)}}); }
Value lora(Value optimizer) { return Value::map({{"optimizer", std::move(optimizer)}, {"lora", true}}); }
Value qlora(Value optimizer) {
  return Value::map({{"optimizer", std::move(optimizer)}, {"lora", true}, {"quantize", "nf4"}});
}
Value with(Value job, const char* key, Value value) {
  job.set(key, std::move(value));
  return job;
}

}  // namespace ft::test
