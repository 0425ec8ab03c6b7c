#include "engine/train/memory_plan.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>

#include "engine/data/token_rows.h"
#include "engine/device/memory.h"
#include "engine/formats/model_directory.h"
#include "engine/formats/tensor_source.h"
#include "engine/layers/compute.h"
#include "engine/layers/kv_cache.h"
#include "engine/optim/optimizer.h"
#include "engine/parallel/scalar_type.h"
#include "engine/train/base_model.h"
#include "engine/train/evaluate.h"
#include "engine/train/micro_batch.h"
#include "engine/train/save.h"

namespace ft {
namespace {

using Place = ImaginedMemory::Place;
// What a process has taken beside tensors after its first steps: stacks of threads, code that oneDNN generates, buffers
// of connections, holes between blocks. Measured: 20 to 30 MB.
constexpr int64_t kWarm = 24'000'000;
constexpr auto kDevice = static_cast<size_t>(Place::device), kHome = static_cast<size_t>(Place::home);

// The directory's weights, or null where it holds a config alone.
std::unique_ptr<ModelDirectory> weights_of(const Value& model) {
  const Value* dir = model.find("dir");
  if (!dir || !dir->is_string()) return nullptr;
  const std::filesystem::path path = dir->as_string();
  const bool there = std::filesystem::exists(path / "model.safetensors.index.json") ||
                     std::filesystem::exists(path / "model.safetensors") || find_tensor_source(path).has_value();
  return there ? open_base(model) : nullptr;
}

// The dtype that config.json names, under its old key or its new one; bf16 where it names none.
DType dtype_of_config(const Value& config) {
  for (const char* key : {"dtype", "torch_dtype"})
    if (const Value* named = config.find(key); named && named->is_string())
      if (const auto dtype = dtype_from_name(named->as_string())) return *dtype;
  return DType::bf16;
}

// What "auto" comes to on the ranks that are planned for.
Value with_compute(Value plan, bool gpu) {
  Value& model = *plan.find("model");
  if (model.get("compute", "auto") == "auto") model.set("compute", gpu ? "bf16" : to_string(fast_compute_dtype()));
  return plan;
}

/// One imagined run.
class Rehearsal {
 public:
  explicit Rehearsal(const MemoryPlanInputs& inputs)
      : memory_(inputs.gpu),
        gpu_(inputs.gpu),
        directory_(weights_of(inputs.plan.at("model"))),
        source_(directory_.get(), 0) {
    const Value* dir = inputs.plan.at("model").find("dir");
    if (!directory_ && dir && dir->is_string()) source_.assume(dtype_of_config(inputs.plan.at("model").at("config")));
    const Value plan = with_compute(inputs.plan, inputs.gpu);
    model_ = std::make_unique<ShardedModel>(plan, source_, imagined_group(inputs.ranks, traffic), &memory_);
    if (directory_) check_weights(*directory_, model_->model());
    pairs_ = plan.at("data").at("train").get("kind", "") == "preference";
    hold_optimizer(plan.at("optimizer"));
    const Value& batch = plan.at("batch");
    const int64_t each = batch.at("micro").as_integer() * model_->mesh().num_data_ranks();
    accumulation_ = std::max<int64_t>(1, batch.at("total").as_integer() / each);
    memory_.mark();
  }

  /// A step: its first micro batch, and one that stands for all others. What it moves is left in `traffic` and in the
  /// home's counters.
  void step(const Batch& batch) {
    walk(batch), end_step();  // the step before: its buffers stay, and what is whole is gathered anew in each step
    traffic = {};
    const int64_t to_device = moved_to_device(), to_home = moved_to_home();
    walk(batch);
    if (accumulation_ > 1) {
      const Traffic first = traffic;
      const int64_t device_once = moved_to_device(), home_once = moved_to_home();
      walk(batch);
      const int64_t others = accumulation_ - 1;
      traffic.gathered = first.gathered + others * (traffic.gathered - first.gathered);
      traffic.reduced = first.reduced + others * (traffic.reduced - first.reduced);
      traffic.exchanged = first.exchanged + others * (traffic.exchanged - first.exchanged);
      bytes_to_device = device_once - to_device + others * (moved_to_device() - device_once);
      bytes_to_home = home_once - to_home + others * (moved_to_home() - home_once);
    } else {
      bytes_to_device = moved_to_device() - to_device;
      bytes_to_home = moved_to_home() - to_home;
    }
    end_step();
  }

  void evaluate(const Batch& batch) {
    MicroBatch made = micro_batch_of(batch);
    made.context.log_probs = pairs_;  // of the base without its adapter, too, which takes no more
    model_->schedule().forward(made.tokens, made.context);
  }

  /// Answers to prompts: what they come to in the cache, and one token more.
  void answer(const TokenRows& rows, const EvaluateOptions& options) {
    const PromptsAtOnce prompts = prompts_at_once(rows, options.limit, model_->mesh().data_group().size());
    KvCache cache(prompts.count, prompts.longest + options.max_new_tokens);
    const auto longs = at::TensorOptions(at::kLong).device(at::kMeta);
    for (const int64_t length : {prompts.longest, int64_t{1}}) {
      Context context;
      context.cache = &cache;
      context.positions = cache.next_positions(length);  // whose values choose a table of rotations
      context.last = at::empty({prompts.count}, longs);
      model_->schedule().forward(at::empty({prompts.count, length}, longs), context);
      cache.advance(std::vector<int64_t>(static_cast<size_t>(prompts.count), length));
    }
  }

  /// Device's and home's, each at its own peak, or both at the joint one where they are one memory.
  ImaginedMemory::Holding peak() const {
    if (!gpu_) return memory_.joint_peak();
    ImaginedMemory::Holding peak = memory_.device_peak();
    peak[kHome] = memory_.home_peak()[kHome];
    return peak;
  }
  int64_t peak_of_device() const {
    const ImaginedMemory::Holding at = peak();
    return total(at[kDevice]) + (gpu_ ? 0 : total(at[kHome]));
  }
  int64_t held_by_device() const { return total(memory_.held()[kDevice]) + (gpu_ ? 0 : total(memory_.held()[kHome])); }

  ImaginedMemory& memory() { return memory_; }
  ShardedModel& model() { return *model_; }
  const WeightSource& source() const { return source_; }

  Traffic traffic;
  int64_t bytes_to_device = 0, bytes_to_home = 0;

 private:
  // Its state is made of ordinary tensors, whose sizes it can tell before it makes them.
  void hold_optimizer(const Value& described) {
    const MadeFor made_for(MemoryKind::optimizer);
    const Place place = model_->pages_state() ? Place::map : model_->home() ? Place::home : Place::device;
    const std::vector<OptimizerPiece> pieces = optimizer_pieces(*model_);
    step_bytes_ = optimizer_step_bytes(described, pieces);
    for (const OptimizerPiece& piece : pieces)
      if (const int64_t bytes = optimizer_state_bytes(described, piece); bytes > 0)
        optimizer_.push_back(memory_.make(place, bytes, at::kByte));
  }

  MicroBatch micro_batch_of(const Batch& batch) {
    const ContextAxis& axis = model_->context_axis();
    const Batch part = own_part(batch, axis, 0);
    MicroBatch made = micro_batch(part, axis, c10::Device(c10::DeviceType::Meta));
    made.context.targets = micro_batch(part, axis).context.targets;  // the loss is made for those that there are
    return made;
  }

  void walk(const Batch& batch) {
    MicroBatch made = micro_batch_of(batch);
    made.context.log_probs = pairs_;
    if (pairs_) {  // what the base makes of them, too
      Context reference = made.context;
      reference.adapter = false;
      model_->schedule().forward(made.tokens, reference);
    }
    made.context.training = true;
    const auto like = [](const at::Tensor& output) { return at::empty_like(output); };
    model_->schedule().train(made.tokens, made.context, pairs_ ? like : Schedule::OutputGrad());
  }

  void end_step() {
    model_->reduce_gradients();
    for (auto& shard : model_->shards()) shard->grad();
    if (step_bytes_ > 0) {
      const MadeFor made_for(MemoryKind::optimizer);
      memory_.make(model_->home() ? Place::home : Place::device, step_bytes_, at::kByte);
    }
    model_->masters_changed();
    model_->zero_gradients();
  }

  int64_t moved_to_device() { return model_->home() ? model_->home()->bytes_to_device() : 0; }
  int64_t moved_to_home() { return model_->home() ? model_->home()->bytes_to_home() : 0; }

  ImaginedMemory memory_;
  bool gpu_;
  std::unique_ptr<ModelDirectory> directory_;
  WeightSource source_;
  std::unique_ptr<ShardedModel> model_;
  std::vector<at::Tensor> optimizer_;
  int64_t accumulation_ = 1, step_bytes_ = 0;
  bool pairs_ = false;  // a loss over sequences, and the base's own log-probabilities
};

int64_t whole_checkpoint(ShardedModel& model, const Value& optimizer) {
  int64_t bytes = 0;
  for (const OptimizerPiece& piece : optimizer_pieces(model)) {
    OptimizerPiece whole = piece;
    whole.numel = whole.count = piece.whole_numel;
    bytes += whole.numel * static_cast<int64_t>(sizeof(float)) + optimizer_state_bytes(optimizer, whole);
  }
  return bytes;
}

std::vector<DType> frozen_dtypes(ShardedModel& model) {
  std::vector<DType> found;
  for (auto& shard : model.shards())
    for (const FlatRange& range : shard->ranges())
      if (const DType dtype = dtype_of(range.owned_dtype); range.storage == Storage::frozen)
        if (std::find(found.begin(), found.end(), dtype) == found.end()) found.push_back(dtype);
  return found;
}

int64_t merged_bytes(ShardedModel& model, const WeightSource& source) {
  int64_t bytes = 0;
  for (const Parameter* p : model.model().parameters())
    if (p->name.find(".lora_") == std::string::npos)
      bytes += p->full_numel() * static_cast<int64_t>(byte_size(source.stored_dtype(*p)));
  return bytes;
}

int64_t peak_with_checkpointing(MemoryPlanInputs inputs) {
  inputs.plan.set("activation_checkpointing", true);
  Rehearsal rehearsal(inputs);
  rehearsal.step(inputs.train);
  return rehearsal.peak_of_device();
}

}  // namespace

MemoryPlan plan_memory(const MemoryPlanInputs& inputs) {
  MemoryPlan made;
  made.floor = read_host_memory().anonymous + kWarm;
  {
    Rehearsal rehearsal(inputs);
    ShardedModel& model = rehearsal.model();
    made.counts = model.counts();
    made.compute = model.compute();
    made.frozen = frozen_dtypes(model);
    made.checkpoint = whole_checkpoint(model, inputs.plan.at("optimizer"));
    made.merged = merged_bytes(model, rehearsal.source());
    made.standing = rehearsal.memory().held();
    made.starting = loftq_bytes(model.model().low_rank_starts(), rehearsal.source());
    const int64_t standing = rehearsal.held_by_device();
    if (inputs.evaluate.rows > 0) {
      rehearsal.evaluate(inputs.evaluate);
      made.evaluation = rehearsal.peak_of_device() - standing;
      rehearsal.memory().mark();
    }
    rehearsal.step(inputs.train);
    made.training = rehearsal.peak();
    made.traffic = rehearsal.traffic;
    made.bytes_to_device = rehearsal.bytes_to_device;
    made.bytes_to_home = rehearsal.bytes_to_home;
    made.checkpointing_saves = rehearsal.peak_of_device();
  }
  const bool checkpointed = checkpoint_every(inputs.plan) == 1;
  made.checkpointing_saves = checkpointed ? 0 : made.checkpointing_saves - peak_with_checkpointing(inputs);
  return made;
}

int64_t plan_answers(const MemoryPlanInputs& inputs, const TokenRows& rows, const EvaluateOptions& options) {
  Rehearsal rehearsal(inputs);
  const int64_t standing = rehearsal.held_by_device();
  rehearsal.answer(rows, options);
  return rehearsal.peak_of_device() - standing;
}

Batch heaviest_batch(const Split& split, int64_t rows, int64_t multiple) {
  std::vector<int64_t> order(static_cast<size_t>(split.packing.size())), tokens(order.size(), 0);
  std::iota(order.begin(), order.end(), int64_t{0});
  for (size_t row = 0; row < order.size(); ++row)
    for (const int64_t document : split.packing.rows[row]) tokens[row] += split.rows->length(document);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return tokens[static_cast<size_t>(a)] > tokens[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(rows), -1);  // of no weight
  return make_batch(*split.rows, split.packing, order, 0, multiple);
}

Batch assumed_batch(int64_t rows, int64_t length) {
  Batch batch;
  batch.rows = rows;
  batch.length = (length + kLengthMultiple - 1) / kLengthMultiple * kLengthMultiple;
  const auto size = static_cast<size_t>(rows * batch.length);
  batch.tokens.assign(size, 0);
  batch.targets.assign(size, 0);
  batch.num_targets = rows * batch.length;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t t = 0; t < batch.length; ++t) batch.positions.push_back(t);
    batch.documents.push_back({batch.length});
    batch.row_ids.push_back(r);
  }
  return batch;
}

}  // namespace ft
