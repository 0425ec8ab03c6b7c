#include "engine/train/schedule.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/error/error.h"
#include "engine/layers/router_balance.h"

namespace ft {
namespace {

std::vector<Parameter*> trainable(const std::vector<Parameter*>& parameters) {
  std::vector<Parameter*> kept;
  for (Parameter* p : parameters)
    if (p->storage == Storage::trainable) kept.push_back(p);
  return kept;
}

}  // namespace

Schedule::Schedule(Model& model, std::vector<std::unique_ptr<ShardUnit>>& shards, const ScheduleOptions& options)
    : model_(&model), shards_(&shards), options_(options) {
  const auto& units = model.units();
  if (options_.shard_of.empty()) {
    options_.shard_of.resize(units.size());
    std::iota(options_.shard_of.begin(), options_.shard_of.end(), size_t{0});
  }
  int64_t number = 0;
  for (const ModelUnit& unit : units)
    checkpointed_.push_back(options.checkpoint_every > 0 && unit.checkpoint &&
                            number++ % options.checkpoint_every == 0);
  away_.resize(units.size());
  while (first_trained_ < units.size() && trainable(units[first_trained_].parameters).empty()) ++first_trained_;
}

bool Schedule::has_graph(size_t unit) const {
  if (unit < first_trained_) return false;
  return !checkpointed_[unit];
}

// All that a checkpointed unit keeps. Its place at home stays from step to step: locking pages anew is dear.
void Schedule::keep_input(size_t unit, const at::Tensor& input, Ran& ran) {
  if (unit < first_trained_) return;  // has no backward
  ran.input = input;
  if (!options_.activation_home || !checkpointed_[unit] || !input.is_floating_point()) return;
  at::Tensor& away = away_[unit];
  if (!away.defined() || away.numel() != input.numel() || away.scalar_type() != input.scalar_type())
    away = options_.activation_home->zeros(input.numel(), input.scalar_type());
  options_.activation_home->to_home(away, input.reshape({-1}));
  ran.input = at::empty({0}, input.options()).set_requires_grad(false);
  ran.shape = input.sizes().vec();
}

at::Tensor Schedule::kept_input(size_t unit, const Ran& ran) {
  if (ran.shape.empty()) return ran.input;
  at::Tensor input = at::empty(ran.shape, ran.input.options());
  options_.activation_home->to_device(input.view({-1}), away_[unit]);
  return input;
}

bool Schedule::gathers_again(size_t unit) const {
  const bool reads = model_->units()[unit].backward_reads || !has_graph(unit);
  return options_.reshard_after_forward && unit + 1 < model_->units().size() && reads;
}

// A shard that the next unit needs too is not given back in between.
bool Schedule::gathers_early(size_t unit, size_t neighbour) const {
  return options_.prefetch || options_.shard_of[unit] == options_.shard_of[neighbour];
}

bool Schedule::reduces(size_t unit) const {
  const bool last = unit == first_trained_ || options_.shard_of[unit - 1] != options_.shard_of[unit];
  return last && shard(unit).trainable();
}

void Schedule::start_gather(size_t unit) {
  for (const size_t lender : model_->units()[unit].borrows) shard(lender).start_gather();
  shard(unit).start_gather();
}

void Schedule::finish_gather(size_t unit) {
  unit_at_work_ = unit;
  for (const size_t lender : model_->units()[unit].borrows) shard(lender).finish_gather(waits.gather);
  shard(unit).finish_gather(waits.gather);
}

void Schedule::release(size_t unit, bool until_backward) {
  until_backward ? shard(unit).release_to_neighbours() : shard(unit).release();
  for (const size_t lender : model_->units()[unit].borrows) shard(lender).release();
}

at::Tensor Schedule::forward(const at::Tensor& tokens, const Context& context, const Observer& observe) {
  c10::AutoGradMode no_graph(false);
  auto& units = model_->units();
  at::Tensor x = tokens;
  start_gather(0);
  for (size_t i = 0; i < units.size(); ++i) {
    const bool early = i + 1 < units.size() && gathers_early(i + 1, i);
    if (early) start_gather(i + 1);
    finish_gather(i);
    x = units[i].module->forward(x, context);
    if (observe) observe(i, x);
    release(i);
    if (i + 1 < units.size() && !early) start_gather(i + 1);
  }
  return x;
}

Schedule::Ran Schedule::run_with_graph(size_t unit, const at::Tensor& input, const Context& context) {
  c10::AutoGradMode graph(true);
  // The unit's graph ends at its input: a detached leaf, which wants a gradient only if a unit before it is trained.
  at::Tensor leaf = input.detach();
  if (unit > first_trained_) leaf.requires_grad_(true);
  at::Tensor output = model_->units()[unit].module->forward(leaf, context);
  return {std::move(leaf), std::move(output)};
}

void Schedule::walk_forward(const at::Tensor& tokens, const Context& context, std::vector<Ran>& ran) {
  auto& units = model_->units();
  const size_t head = units.size() - 1;
  at::Tensor x = tokens;
  start_gather(0);
  for (size_t i = 0; i <= head; ++i) {
    const bool early = i < head && gathers_early(i + 1, i);
    if (early) start_gather(i + 1);
    finish_gather(i);
    if (i == head && options_.keep_lent && options_.reshard_after_forward)
      for (const size_t lender : units[head].borrows) shard(lender).release();  // the head has it now
    if (has_graph(i)) {
      ran[i] = run_with_graph(i, x, context);
    } else {
      c10::AutoGradMode no_graph(false);
      keep_input(i, x, ran[i]);
      ran[i].output = units[i].module->forward(x, context);
    }
    x = ran[i].output.detach();
    if (!has_graph(i)) ran[i].output.reset();
    // The head's backward follows at once; units before the first trained one have none.
    const bool keep = i == head || (!options_.reshard_after_forward && i >= first_trained_);
    const auto& lenders = units[head].borrows;
    const bool lent = options_.keep_lent && std::find(lenders.begin(), lenders.end(), i) != lenders.end();
    if (!keep && !(lent && options_.reshard_after_forward)) release(i, i >= first_trained_ && gathers_again(i));
    if (i < head && !early) start_gather(i + 1);
  }
}

/// This rank's part of what layers with experts add to the loss of the micro batch that went forward; undefined
/// without.
at::Tensor Schedule::auxiliary_loss(const Context& context) const {
  RouterBalance* balance = model_->balance();
  if (!balance) return {};
  if (!context.targets.defined() || context.log_probs)
    throw Error(ErrorKind::config, "the auxiliary loss of experts goes with the loss of next tokens alone")
        .key("model.config.output_router_logits")
        .help("write output_router_logits = false into config.json");
  return balance->settle(context.targets, context.loss_scale, [this](const at::Tensor& sums) {
    if (options_.token_holders) options_.token_holders->all_reduce_sum(sums).wait();
  });
}

at::Tensor Schedule::backward_unit(size_t unit, const Ran& ran, const at::Tensor& grad_output) {
  unit_at_work_ = unit;
  const ModelUnit& described = model_->units()[unit];
  const std::vector<Parameter*> own = trainable(described.parameters);
  std::vector<std::pair<size_t, Parameter*>> lent;
  for (const size_t lender : described.borrows)
    for (Parameter* p : trainable(model_->units()[lender].parameters)) lent.emplace_back(lender, p);

  torch::autograd::variable_list inputs;
  const bool wants_input = ran.input.requires_grad();
  if (wants_input) inputs.push_back(ran.input);
  for (Parameter* p : own) inputs.push_back(p->value);
  for (const auto& [lender, parameter] : lent) inputs.push_back(parameter->value);
  auto grads = torch::autograd::grad({ran.output}, inputs, {grad_output}, /*retain_graph=*/false,
                                     /*create_graph=*/false, /*allow_unused=*/true);

  size_t next = wants_input ? 1 : 0;
  std::vector<at::Tensor> own_grads;
  for (size_t i = 0; i < own.size(); ++i) own_grads.push_back(std::move(grads[next++]));
  for (const auto& [lender, parameter] : lent) {
    // Tied parameters: both gradients are summed in fp32 and reduced once.
    const at::Tensor grad = std::move(grads[next++]);
    if (grad.defined()) shard(lender).lend_grad(*parameter, grad);
  }
  hand_over(unit, own, own_grads);
  return wants_input ? grads[0] : at::Tensor();
}

void Schedule::hand_over(size_t unit, const std::vector<Parameter*>& own, const std::vector<at::Tensor>& grads) {
  if (!reduces(unit)) {
    for (size_t i = 0; i < own.size(); ++i)
      if (grads[i].defined()) shard(unit).lend_grad(*own[i], grads[i]);
    return;
  }
  const auto& all = shard(unit).trainable()->layout.parameters();
  std::vector<at::Tensor> ordered(all.size());
  for (size_t i = 0; i < own.size(); ++i)
    ordered[static_cast<size_t>(std::find(all.begin(), all.end(), own[i]) - all.begin())] = grads[i];
  shard(unit).start_reduce(ordered);
}

void Schedule::finish_reduce(size_t unit) {
  shard(unit).finish_reduce(waits.reduce);
  if (reduced) reduced(options_.shard_of[unit]);
}

double Schedule::train(const at::Tensor& tokens, const Context& context, const OutputGrad& grad_of) {
  auto& units = model_->units();
  const size_t head = units.size() - 1;
  FT_CHECK(first_trained_ <= head, "nothing to train");
  std::vector<Ran> ran(units.size());
  walk_forward(tokens, context, ran);
  at::Tensor loss = ran[head].output.detach();  // read at the end: a GPU is not waited for in between
  at::Tensor grad = grad_of ? grad_of(loss) : at::ones_like(loss);
  if (const at::Tensor more = auxiliary_loss(context); more.defined()) loss = loss.add(more);
  size_t reducing = units.size();  // the unit whose gradients are on their way
  for (size_t i = head + 1; i-- > first_trained_;) {
    if (gathers_again(i) && !gathers_early(i, i + 1)) start_gather(i);  // never the head's
    if (i > first_trained_ && gathers_again(i - 1) && gathers_early(i - 1, i)) start_gather(i - 1);
    if (gathers_again(i)) finish_gather(i);
    if (!has_graph(i)) ran[i] = run_with_graph(i, kept_input(i, ran[i]), context);
    at::Tensor grad_input = backward_unit(i, ran[i], grad);
    ran[i] = Ran{};
    if (i == head || !options_.reshard_after_forward || gathers_again(i)) release(i);
    if (reducing < units.size()) finish_reduce(reducing);
    reducing = reduces(i) ? i : units.size();
    if (reducing == i && !shard(i).reducing())
      finish_reduce(std::exchange(reducing, units.size()));  // is there already
    grad = std::move(grad_input);
  }
  if (reducing < units.size()) finish_reduce(reducing);
  return grad_of || loss.is_meta() ? 0 : loss.item<double>();  // of a step that is only imagined
}

}  // namespace ft
