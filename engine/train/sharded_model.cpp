#include "engine/train/sharded_model.h"

#include <ATen/ops/scalar_tensor.h>

#include "engine/error/error.h"
#include "engine/layers/compute.h"
#include "engine/parallel/scalar_type.h"

namespace ft {

std::optional<LoraOptions> lora_options(const Value& plan) {
  const Value* adapter = plan.find("adapter");
  if (!adapter || adapter->is_null()) return std::nullopt;
  LoraOptions lora;
  lora.r = adapter->get("r", lora.r);
  lora.alpha = adapter->get("alpha", lora.alpha);
  lora.dropout = adapter->get("dropout", lora.dropout);
  lora.use_rslora = adapter->get("use_rslora", lora.use_rslora);
  if (const Value* targets = adapter->find("target_modules"); targets && !targets->is_null())
    lora.target_modules = *targets;
  return lora;
}

DType compute_dtype(const Value& plan, ProcessGroup& group) {
  const Value& model = plan.at("model");
  const std::string wanted = model.get("compute", "auto");
  DType compute = DType::f32;
  if (wanted == "auto") {
    compute = fast_compute_dtype();
  } else if (const auto named = dtype_from_name(wanted);
             named == DType::f32 || named == DType::bf16 || named == DType::f16) {
    compute = *named;
  } else {
    throw Error(ErrorKind::config, "got '" + wanted + "', want auto, fp32, bf16 or fp16").key("model.compute");
  }
  at::Tensor decided = at::scalar_tensor(static_cast<int64_t>(compute), at::kLong);
  group.broadcast(decided, 0).wait();
  return static_cast<DType>(decided.item<int64_t>());
}

namespace {

const Value& parallel_of(const Value& plan) {
  static const Value none = Value::map();
  const Value* parallel = plan.find("parallel");
  return parallel && !parallel->is_null() ? *parallel : none;
}

ContextAxis context_axis_of(const Mesh& mesh, const Value& parallel) {
  const std::string method = parallel.get("context_method", "ring");
  if (method != "ring" && method != "ulysses")
    throw Error(ErrorKind::config, "got '" + method + "', want ring or ulysses").key("parallel.context_method");
  if (mesh.shape().context == 1) return {};
  return {&mesh.group(Axis::context), method == "ring" ? ContextAxis::Method::ring : ContextAxis::Method::ulysses};
}

}  // namespace

ShardedModel::ShardedModel(const Value& plan, const WeightSource& source, std::shared_ptr<ProcessGroup> world)
    : mesh_(MeshShape::from_plan(parallel_of(plan), world->size()), world),
      context_axis_(context_axis_of(mesh_, parallel_of(plan))),
      compute_(compute_dtype(plan, *world)),
      pool_(at::kCPU) {
  const Value& described = plan.at("model");
  const auto lora = lora_options(plan);
  if (lora) lora_ = *lora;
  ModelOptions options;
  options.quantize_nf4 = described.get("quantize", "none") == "nf4";
  options.double_quant = described.get("double_quant", true);
  options.compute = compute_;
  options.lora = lora ? &lora_ : nullptr;
  model_ = std::make_unique<Model>(described.at("description"), options);

  const Value* parallel = &parallel_of(plan);
  ShardUnitOptions unit_options;
  const std::string param_dtype = parallel->get("param_dtype", "auto");
  const auto param = param_dtype == "auto" ? std::optional(compute_) : dtype_from_name(param_dtype);
  if (!param)
    throw Error(ErrorKind::config, "got '" + param_dtype + "', want auto, fp32 or bf16").key("parallel.param_dtype");
  unit_options.param_dtype = scalar_type(*param);
  if (parallel->get("offload_params", false))
    home_ = std::make_unique<OffloadHome>(OffloadOptions{.pin = parallel->get("cpu_offload_pin_memory", true)});
  unit_options.home = home_.get();
  for (const ModelUnit& unit : model_->units()) {
    std::vector<at::ScalarType> stored;
    for (const Parameter* p : unit.parameters)
      stored.push_back(p->storage == Storage::frozen ? scalar_type(source.stored_dtype(*p)) : at::kFloat);
    shards_.push_back(
        std::make_unique<ShardUnit>(unit.name, unit.parameters, stored, split_group(), pool_, unit_options));
  }
  ScheduleOptions schedule;
  schedule.activation_checkpointing = plan.get("activation_checkpointing", false);
  schedule.reshard_after_forward = parallel->get("reshard_after_forward", true);
  schedule.prefetch = parallel->get("prefetch", true);
  schedule.keep_lent = split_group().size() == 1;
  schedule_ = std::make_unique<Schedule>(*model_, shards_, schedule);
}

void ShardedModel::load(const WeightSource& source, const std::function<void(int64_t)>& progress) {
  for (auto& shard : shards_) {
    try {
      load_unit(*shard, source, split_group(), progress);
    } catch (Error& e) {
      e.context("loading " + shard->name());
      throw;
    }
  }
}

void ShardedModel::reduce_gradients() {
  if (std::exchange(reduced_, true) || replicas().size() == 1) return;
  std::vector<Pending> sums;
  for (auto& shard : shards_)
    if (const at::Tensor grad = shard->grad(); grad.defined()) sums.push_back(replicas().all_reduce_sum(grad));
  for (Pending& sum : sums) sum.wait();
}

void ShardedModel::zero_gradients() {
  for (auto& shard : shards_) shard->zero_grad();
  reduced_ = false;
}

int64_t ShardedModel::bytes_to_read(const WeightSource& source) {
  int64_t total = 0;
  for (auto& shard : shards_) total += ft::bytes_to_read(*shard, source, split_group().rank());
  return total;
}

ParameterCounts ShardedModel::counts() {
  ParameterCounts counts;
  for (const Parameter* p : model_->parameters()) {
    counts.all += p->numel();
    if (p->storage == Storage::trainable) counts.trainable += p->numel();
  }
  return counts;
}

ShardBytes ShardedModel::bytes() {
  ShardBytes bytes{.pool = pool_.held_bytes()};
  for (auto& shard : shards_) {
    for (const FlatRange& range : shard->ranges()) {
      const int64_t owned = static_cast<int64_t>(range.owned.nbytes());
      if (range.storage == Storage::trainable) bytes.master += owned, bytes.gradient += owned;
      if (range.storage == Storage::frozen) bytes.frozen += owned;
      if (range.storage == Storage::nf4) bytes.nf4 += owned;
    }
  }
  return bytes;
}

std::vector<std::string> ShardedModel::quantized() {
  std::vector<std::string> names;
  for (const Parameter* p : model_->parameters())
    if (p->storage == Storage::nf4) names.push_back(p->name);
  return names;
}

}  // namespace ft
