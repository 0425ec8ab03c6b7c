#include "engine/train/unit_updates.h"

#include <ATen/core/Tensor.h>

#include <cmath>

#include "engine/error/error.h"
#include "engine/parallel/stopwatch.h"

namespace ft {
namespace {

Overlap named(const Value& plan, bool at_home) {
  const std::string wanted = plan.at("optimizer").get("overlap", "auto");
  if (wanted == "auto") return at_home ? Overlap::forward : Overlap::none;
  if (wanted == "none") return Overlap::none;
  if (wanted == "forward") return Overlap::forward;
  if (wanted == "backward") return Overlap::backward;
  throw Error(ErrorKind::config, "got '" + wanted + "', want auto, none, forward or backward").key("optimizer.overlap");
}

Error begun_error() {
  return Error(ErrorKind::config, "parameters are asked for between a step's last backward and run:update()")
      .key("optimizer.overlap")
      .help(
          "with \"backward\" their update has begun by then: run one backward a micro batch, and evaluate or save "
          "after run:update(); or set overlap = \"forward\"");
}

}  // namespace

Overlap overlap_of(const Value& plan, ShardedModel& model, const Optimizer& optimizer) {
  const bool by_pieces = dynamic_cast<const ElementwiseOptimizer*>(&optimizer) != nullptr;
  const Overlap overlap = named(plan, model.state_home() && by_pieces);
  if (overlap == Overlap::none) return overlap;
  const auto refuse = [](const std::string& what, const std::string& help) {
    return Error(ErrorKind::config, what).key("optimizer.overlap").help(help);
  };
  if (!by_pieces) throw refuse("this optimizer looks at whole matrices, which ranks share", "leave overlap out");
  if (!model.device()->is_cpu() && !model.state_home())
    throw refuse("updates are made on " + model.device()->name() + ", which computes by itself already",
                 "set parallel.offload_params = true, or leave overlap out");
  if (overlap == Overlap::forward) return overlap;
  const std::string instead = "set overlap = \"forward\"";
  if (model.compute() == DType::f16)
    throw refuse("got \"backward\", but gradients in fp16 are judged before any update", instead);
  if (plan.get("non_finite", "stop") == "skip")
    throw refuse("got \"backward\", but non_finite = \"skip\" judges gradients before any update", instead);
  return overlap;
}

std::string overlap_text(Overlap overlap) {
  if (overlap == Overlap::forward) return "of each unit beside the next step's forward, which waits for it";
  if (overlap == Overlap::backward) return "of each unit as its gradients arrive, beside the backward";
  return "";
}

UnitUpdates::UnitUpdates(ShardedModel& model, Optimizer& optimizer, Overlap overlap,
                         std::function<void()> before_change)
    : model_(&model), optimizer_(&optimizer), overlap_(overlap), before_change_(std::move(before_change)) {
  size_t pieces = 0;  // in the order of optimizer_pieces
  for (auto& shard : model.shards()) {
    const FlatRange* range = shard->trainable();
    if (!range) continue;
    units_.push_back({.shard = shard.get(), .first_piece = pieces, .num_pieces = range->layout.parameters().size()});
    pieces += units_.back().num_pieces;
  }
  if (overlap_ == Overlap::none) return;
  by_pieces_ = dynamic_cast<ElementwiseOptimizer*>(&optimizer);
  FT_CHECK(by_pieces_ && by_pieces_->num_pieces() == pieces, "updates that overlap are made piece by piece");
}

UnitUpdates::~UnitUpdates() {
  model_->when_reduced(nullptr);
  for (Unit& unit : units_) unit.shard->before_gather(nullptr);
}

void UnitUpdates::wait(int64_t job) {
  const Stopwatch watch(waited_);
  thread_.wait(job);
}

void UnitUpdates::forget_arrivals() {
  for (Unit& unit : units_) {
    if (unit.arrived) wait(unit.job);
    unit.arrived = false;
  }
}

void UnitUpdates::next_step(double lr) {
  if (begun_) throw begun_error();
  forget_arrivals();
  lr_ = lr;
}

void UnitUpdates::last_backward() {
  if (overlap_ == Overlap::none) return;
  if (begun_) throw begun_error();
  forget_arrivals();  // of a backward that was not the last
  model_->when_reduced([this](size_t shard) {
    for (Unit& unit : units_)
      if (unit.shard == model_->shards()[shard].get()) arrived(unit);
  });
}

void UnitUpdates::arrived(Unit& unit) {
  if (unit.arrived) return;
  unit.arrived = true;
  unit.shard->grad();  // memory, and zeros where no gradient came
  const bool updates = overlap_ == Overlap::backward;
  if (updates) begin_in_backward(unit);
  const int rank = model_->split_group().rank();
  unit.job = thread_.add([this, &unit, updates, rank] {
    unit.squares = squares_of_gradients(*unit.shard, rank);
    if (!updates) return;
    not_finite_ = not_finite_ || !std::isfinite(unit.squares);
    if (!not_finite_) apply(unit, false, 1);
  });
}

void UnitUpdates::begin_in_backward(Unit& unit) {
  FT_CHECK(!unit.shard->gathered(), unit.shard->name() + ": its update would begin before its last use");
  if (!begun_) {
    before_change_();
    not_finite_ = false;
    by_pieces_->begin_step(lr_);
    begun_ = true;
  }
  unit.shard->before_gather([] { throw begun_error(); });
}

double UnitUpdates::squares() {
  double squares = 0;
  if (overlap_ == Overlap::none) {
    for (Unit& unit : units_) squares += squares_of_gradients(*unit.shard, model_->split_group().rank());
    return squares;
  }
  for (Unit& unit : units_) arrived(unit);  // those that no backward told of
  for (Unit& unit : units_) {
    wait(unit.job);
    squares += unit.squares;
  }
  return squares;
}

void UnitUpdates::apply(const Unit& unit, bool scale, double factor) {
  if (scale && factor != 1) unit.shard->grad().mul_(factor);
  by_pieces_->step_pieces(unit.first_piece, unit.num_pieces);
  ++updated_;
}

void UnitUpdates::step_alone(double factor) {
  for (Unit& unit : units_) unit.shard->grad();  // memory, and zeros where no gradient came
  if (!optimizer_->scale_gradients(factor) && factor != 1)
    for (Unit& unit : units_) unit.shard->grad().mul_(factor);
  before_change_();
  optimizer_->step(lr_);
  model_->masters_changed();
  model_->zero_gradients();
}

void UnitUpdates::update(double factor) {
  if (overlap_ == Overlap::none) return step_alone(factor);
  squares();  // every unit's gradients have arrived, and been looked at
  if (overlap_ == Overlap::backward) {
    FT_CHECK(begun_ && !not_finite_ && factor == 1, "a step that began in the backward is taken as it is");
    abandon();  // it is done
    model_->masters_changed();
    return model_->zero_gradients();
  }
  finish();  // the step before: its units were all gathered since
  before_change_();
  const bool scale = !by_pieces_->scale_gradients(factor);
  by_pieces_->begin_step(lr_);
  for (Unit& unit : units_) {
    unit.arrived = false;
    unit.updating = true;
    unit.job = thread_.add([this, &unit, scale, factor] { apply(unit, scale, factor); });
    unit.shard->before_gather([this, &unit] { finish(unit); });
  }
  model_->next_gradients();
}

void UnitUpdates::finish(Unit& unit) {
  if (!unit.updating) return;
  wait(unit.job);
  unit.updating = false;
  unit.shard->before_gather(nullptr);
  unit.shard->masters_changed();
  unit.shard->zero_grad();
}

void UnitUpdates::finish() {
  if (begun_) throw begun_error();
  for (Unit& unit : units_) finish(unit);
}

void UnitUpdates::skip() {
  finish();
  forget_arrivals();
  model_->zero_gradients();
}

void UnitUpdates::abandon() {
  forget_arrivals();
  if (!std::exchange(begun_, false)) return;
  for (Unit& unit : units_) unit.shard->before_gather(nullptr);
}

}  // namespace ft
