#include "engine/train/sharded_model.h"

#include <ATen/ops/scalar_tensor.h>

#include <algorithm>
#include <numeric>

#include "engine/error/error.h"
#include "engine/layers/compute.h"
#include "engine/layers/experts.h"
#include "engine/parallel/device_choice.h"
#include "engine/parallel/imagined.h"
#include "engine/parallel/scalar_type.h"
#include "engine/train/derived_values.h"
#include "engine/train/wrapping.h"

namespace ft {

std::optional<LoraOptions> lora_options(const Value& plan) {
  const Value* adapter = plan.find("adapter");
  if (!adapter || adapter->is_null()) return std::nullopt;
  return LoraOptions::read(*adapter);
}

std::vector<std::string> unfrozen_parameters(const Value& plan) {
  std::vector<std::string> patterns;
  if (const Value* given = plan.find("unfrozen_parameters"); given && asks_for_something(*given))
    for (const Value& pattern : given->as_list()) patterns.push_back(pattern.as_string());
  return patterns;
}

int64_t checkpoint_every(const Value& plan) {
  const Value* given = plan.find("activation_checkpointing");
  if (!given || given->is_null()) return 0;
  return given->is_bool() ? given->as_bool() : given->as_integer();
}

DType compute_dtype(const Value& plan, ProcessGroup& group, const ComputeDevice& device) {
  const Value& model = plan.at("model");
  const std::string wanted = model.get("compute", "auto");
  DType compute = DType::f32;
  if (wanted == "auto") {
    compute = device.is_cpu() ? fast_compute_dtype() : DType::bf16;
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

// Where the optimizer's state is paged; null where the plan does not say so.
std::unique_ptr<OffloadHome> pages_of(const Value& plan, const ComputeDevice& device, ImaginedMemory* imagined) {
  const Value& parallel = parallel_of(plan);
  if (parallel.get("optimizer_state", "with_params") != "paged") return nullptr;
  if (!device.is_cpu() && !imagined && !parallel.get("offload_params", false))
    throw Error(ErrorKind::config, "paged state is updated on the host, and the parameters are on " + device.name())
        .key("parallel.optimizer_state")
        .help("set offload_params: true");
  const Value* save = plan.find("save");
  std::string directory = parallel.get("page_directory", "");
  if (directory.empty()) directory = save ? save->get("dir", ".") : std::string(".");
  std::error_code failed;
  if (!imagined) std::filesystem::create_directories(directory, failed);
  if (failed)
    throw Error(ErrorKind::io, "cannot make the directory: " + failed.message())
        .at(directory)
        .key("parallel.page_directory");
  return std::make_unique<OffloadHome>(OffloadOptions{.pin = false, .pages_in = directory, .imagined = imagined});
}

// The ranks that keep parameters split between forward and backward: those of one node, where the number is that of
// its GPUs. Null where the policy has none.
std::shared_ptr<ProcessGroup> neighbours_of(ProcessGroup& split, const Policy& policy) {
  if (policy.kept_over < 2) return nullptr;
  std::vector<int> ranks(static_cast<size_t>(policy.kept_over));
  std::iota(ranks.begin(), ranks.end(), split.rank() / policy.kept_over * policy.kept_over);
  return split.subgroup(ranks, "neighbours");
}

ContextAxis context_axis_of(const Mesh& mesh, const Value& parallel) {
  const std::string method = parallel.get("context_method", "ring");
  if (method != "ring" && method != "ulysses")
    throw Error(ErrorKind::config, "got '" + method + "', want ring or ulysses").key("parallel.context_method");
  if (mesh.shape().context == 1) return {};
  return {&mesh.group(Axis::context), method == "ring" ? ContextAxis::Method::ring : ContextAxis::Method::ulysses};
}

}  // namespace

ShardedModel::ShardedModel(const Value& plan, const WeightSource& source, std::shared_ptr<ProcessGroup> world,
                           ImaginedMemory* imagined)
    : device_(imagined ? imagined_device() : choose_device(parallel_of(plan).get("device", "auto"), *world, devices_)),
      mesh_(MeshShape::from_plan(parallel_of(plan), world->size()), world),
      policy_(Policy::from_plan(parallel_of(plan), mesh_.shape())),
      split_(mesh_.group(policy_.split_axes())),
      replicas_(mesh_.group(policy_.replica_axes())),
      neighbours_(neighbours_of(*split_, policy_)),
      context_axis_(context_axis_of(mesh_, parallel_of(plan))),
      compute_(compute_dtype(plan, *world, *device_)),
      pool_(device_->where()) {
  const Value& described = plan.at("model");
  const auto lora = lora_options(plan);
  if (lora) lora_ = *lora;
  ModelOptions options;
  options.quantize_nf4 = described.get("quantize", "none") == "nf4";
  options.double_quant = described.get("double_quant", true);
  options.compute = compute_;
  options.lora = lora ? &lora_ : nullptr;
  options.unfrozen = unfrozen_parameters(plan);
  ProcessGroup& tensor = mesh_.group(Axis::tensor);
  options.tensor = {tensor.rank(), tensor.size(), &tensor};
  model_ = std::make_unique<Model>(described.at("description"), options);
  check_names_of_experts(model_->adapted());

  const Value* parallel = &parallel_of(plan);
  ShardUnitOptions unit_options;
  const std::string param_dtype = parallel->get("param_dtype", "auto");
  const auto param = param_dtype == "auto" ? std::optional(compute_) : dtype_from_name(param_dtype);
  if (!param)
    throw Error(ErrorKind::config, "got '" + param_dtype + "', want auto, fp32 or bf16").key("parallel.param_dtype");
  unit_options.param_dtype = scalar_type(*param);
  unit_options.device = device_;
  const OffloadOptions home_options{.pin = parallel->get("cpu_offload_pin_memory", true),
                                    .locking = device_->page_locking().value_or(PageLocking::of_the_system()),
                                    .imagined = imagined};
  if (parallel->get("offload_params", false)) home_ = std::make_unique<OffloadHome>(home_options);
  pages_ = pages_of(plan, *device_, imagined);
  unit_options.home = home_.get();
  unit_options.pages = pages_.get();
  unit_options.keep_whole = !policy_.split_parameters;
  unit_options.reduce_late = !policy_.split_gradients;
  unit_options.neighbours = neighbours_.get();
  if (parallel->get("frozen_weights", "split") == "mmap") {
    if (tensor.size() > 1)
      throw Error(ErrorKind::config, "mmap holds whole matrices, which the tensor axis slices")
          .key("parallel.frozen_weights")
          .help("set frozen_weights: split, or tensor_parallel_size: 1");
    if (!imagined) cache_directory_ = weight_cache_directory(*parallel);
    unit_options.map_frozen = true;
    unit_options.imagined = imagined;
  }
  const std::vector<size_t> shard_of = wrap_units(*parallel, *model_);
  for (size_t first = 0; first < shard_of.size();) {
    std::vector<Parameter*> parameters;
    size_t end = first;
    for (; end < shard_of.size() && shard_of[end] == shard_of[first]; ++end) {
      const auto& own = model_->units()[end].parameters;
      parameters.insert(parameters.end(), own.begin(), own.end());
    }
    std::vector<at::ScalarType> stored;
    for (const Parameter* p : parameters)
      stored.push_back(p->storage == Storage::frozen ? scalar_type(source.stored_dtype(*p)) : at::kFloat);
    std::string name = model_->units()[first].name;
    if (end > first + 1) name += " to " + model_->units()[end - 1].name;
    shards_.push_back(std::make_unique<ShardUnit>(name, parameters, stored, split_group(), pool_, unit_options));
    first = end;
  }
  const auto maps = [](const auto& shard) {
    return std::any_of(shard->ranges().begin(), shard->ranges().end(), [](const FlatRange& r) { return r.mapped; });
  };
  if (std::none_of(shards_.begin(), shards_.end(), maps)) cache_directory_.reset();
  ScheduleOptions schedule;
  schedule.checkpoint_every = checkpoint_every(plan);
  if (plan.get("activation_offload", false)) activation_home_ = std::make_unique<OffloadHome>(home_options);
  schedule.activation_home = activation_home_.get();
  schedule.reshard_after_forward = policy_.kept_over != 1;
  schedule.prefetch = parallel->get("prefetch", true);
  schedule.keep_lent = split_group().size() == 1;
  schedule.shard_of = shard_of;
  schedule.token_holders = &mesh_.world();  // experts are not shared out: every rank has tokens of its own
  schedule_ = std::make_unique<Schedule>(*model_, shards_, schedule);
  std::vector<Axis> holding = policy_.split_axes();
  holding.push_back(Axis::tensor);
  holders_ = mesh_.group(holding);
  tensor_sums_ = std::make_unique<TensorSums>(*model_, tensor);
}

void ShardedModel::load(const WeightSource& source, const std::function<void(int64_t)>& progress,
                        const std::function<void(int64_t, int64_t)>& begun) {
  if (cache_directory_) weight_cache_ = WeightCache(*cache_directory_, shards_, source).map(progress);
  for (auto& shard : shards_) {
    try {
      load_unit(*shard, source, split_group().rank(), holders(), progress);
    } catch (Error& e) {
      e.context("loading " + shard->name());
      throw;
    }
  }
  loftq_ = begin_by_loftq(shards_, model_->low_rank_starts(), source, split_group().rank(), group(), begun);
  for (auto& shard : shards_) derive_values(*shard, source, split_group().rank());
}

void ShardedModel::when_reduced(std::function<void(size_t)> tell) {
  tell_ = std::move(tell);
  const bool in_backward = policy_.split_gradients || split_group().size() == 1;
  const bool alone = replicas().size() == 1 && mesh_.shape().tensor == 1;
  schedule_->reduced = in_backward && alone ? tell_ : nullptr;
}

// One unit's at a time, while the next one's is on its way: what is on its way takes memory.
void ShardedModel::reduce_gradients() {
  if (std::exchange(reduced_, true)) return;
  schedule_->reduced = nullptr;
  const auto tell = std::exchange(tell_, nullptr);
  const bool summed = replicas().size() == 1 && mesh_.shape().tensor == 1;
  const auto finish = [&](size_t i) {
    shards_[i]->finish_reduce(schedule_->waits.reduce);
    if (tell && summed) tell(i);
  };
  for (size_t i = 0; i < shards_.size(); ++i) {
    shards_[i]->start_late_reduce();
    if (i > 0) finish(i - 1);
  }
  finish(shards_.size() - 1);
  tensor_sums_->add_up(shards_, split_group().rank());
  if (replicas().size() > 1) add_up_replicas(tell);
}

void ShardedModel::add_up_replicas(const std::function<void(size_t)>& tell) {
  Pending sum;
  size_t summing = shards_.size();
  const auto finish = [&] {
    sum.wait();
    if (tell && summing < shards_.size()) tell(summing);
  };
  for (size_t i = 0; i < shards_.size(); ++i) {
    const at::Tensor grad = shards_[i]->grad();
    if (!grad.defined()) continue;
    Pending next = replicas().all_reduce_sum(grad);
    finish();
    sum = std::move(next);
    summing = i;
  }
  finish();
}

void ShardedModel::masters_changed() {
  for (auto& shard : shards_) shard->masters_changed();
}

void ShardedModel::zero_gradients() {
  for (auto& shard : shards_) shard->zero_grad();
  next_gradients();
}

void ShardedModel::next_gradients() { reduced_ = false; }

int64_t ShardedModel::bytes_to_read(const WeightSource& source) {
  int64_t total = 0;
  if (cache_directory_) {
    const WeightCache cache(*cache_directory_, shards_, source);
    total = cache.serves() ? 0 : cache.source_bytes();
  }
  for (auto& shard : shards_) total += ft::bytes_to_read(*shard, source, split_group().rank());
  return total;
}

ParameterCounts ShardedModel::counts() {
  ParameterCounts counts;
  for (const Parameter* p : model_->parameters()) {
    counts.all += p->full_numel();
    if (p->storage == Storage::trainable) counts.trainable += p->full_numel();
  }
  return counts;
}

ShardBytes ShardedModel::bytes() {
  ShardBytes bytes{.pool = pool_.held_bytes()};
  for (auto& shard : shards_) {
    for (const FlatRange& range : shard->ranges()) {
      const int64_t owned = range.owned_bytes();
      if (range.mapped) {
        bytes.mapped += owned;
        continue;
      }
      const int64_t whole = range.whole.defined() ? static_cast<int64_t>(range.whole.nbytes()) : 0;
      bytes.whole += std::max<int64_t>(0, whole - (range.owned_dtype == range.gather_dtype ? owned : 0));
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
