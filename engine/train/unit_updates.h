#pragma once
/// The optimizer's step, unit by unit, on a thread of the host beside the one that walks the schedule: what overlaps
/// what is `optimizer.overlap` of a plan. The bits are those of a step by itself.
///
/// | overlap | a unit's update begins | what waits for it |
/// |---|---|---|
/// | none | in update(), which does all of them itself | nothing |
/// | forward | in update(), in the order of the forward | the unit's next gather; a checkpoint |
/// | backward | when its gradients have arrived, while the backward goes on for other units | update() |
///
/// Norms have the same order of sums in all three; with a thread, it takes a unit's sum of squares as the gradients
/// arrive. Owned by the run, after model and optimizer. Rank rule: nothing here is collective. Thread rule: calls come
/// from the schedule's thread.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/device/work_thread.h"
#include "engine/optim/optimizer.h"
#include "engine/train/sharded_model.h"

namespace ft {

enum class Overlap { none, forward, backward };

/// What optimizer.overlap of a plan comes to: "auto" is forward where the state lives on the host by the plan's wish.
/// @throws Error(config) where what is asked for cannot be: updates on a GPU, or gradients that are judged first.
Overlap overlap_of(const Value& plan, ShardedModel& model, const Optimizer& optimizer);
/// What a run says of it at its start; "" for none.
std::string overlap_text(Overlap overlap);

class UnitUpdates {
 public:
  /// @param before_change called before masters and state change: returns when nobody reads them any more
  UnitUpdates(ShardedModel& model, Optimizer& optimizer, Overlap overlap, std::function<void()> before_change);
  ~UnitUpdates();  ///< drops what has not begun
  UnitUpdates(const UnitUpdates&) = delete;

  /// @param lr of the step that begins
  void next_step(double lr);
  /// The backward that comes next is the step's last, as far as is known; another one takes its place.
  void last_backward();
  /// Σ of squares of this rank's gradients (squares_of_gradients), of which `model.reduce_gradients()` has come
  /// before.
  double squares();
  /// The step: gradients times `factor`, and zero afterwards. @throws what the update of a unit threw, here or
  /// where something waits for it
  void update(double factor);
  /// Instead of an update: gradients are zero, masters as they were.
  void skip();
  /// Returns when no update is under way: masters and state are those of the last step.
  /// @throws Error(config) where those of this one have begun, in a backward.
  void finish();
  /// Gives up a step that has begun in the backward: parameters may be read, but are those of no step.
  void abandon();

  Overlap overlap() const { return overlap_; }
  double waited() const { return waited_; }     ///< seconds so far
  int64_t updated() const { return updated_; }  ///< units so far, by the thread

 private:
  struct Unit {
    ShardUnit* shard;
    size_t first_piece, num_pieces;  // among the optimizer's
    bool arrived = false;            // its gradients; the thread looks at them, or has
    bool updating = false;           // forward: its next gather waits
    int64_t job = 0;                 // the last that was given to the thread
    double squares = 0;
  };
  void arrived(Unit& unit);
  void begin_in_backward(Unit& unit);
  void step_alone(double factor);
  void apply(const Unit& unit, bool scale, double factor);
  void finish(Unit& unit);
  void wait(int64_t job);
  void forget_arrivals();

  ShardedModel* model_;
  Optimizer* optimizer_;
  ElementwiseOptimizer* by_pieces_ = nullptr;  // optimizer_, where updates overlap
  Overlap overlap_;
  std::function<void()> before_change_;
  std::vector<Unit> units_;
  double lr_ = 0, waited_ = 0;
  bool begun_ = false;       // backward: this step's
  bool not_finite_ = false;  // the thread's: a gradient of this step, behind which nothing is updated
  std::atomic<int64_t> updated_ = 0;
  WorkThread thread_;  // goes first
};

}  // namespace ft
