#pragma once
/// Which rows each step trains on, and on which rank. A *window* is one optimizer step's rows over all ranks; it is the
/// same whatever the number of ranks. Owned by a run; one per split. Rank rule: every rank holds the same sampler but
/// for `rank`, and calls alike. Not a collective. One thread.

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

/// What becomes of the rows left over when an epoch does not fill its last window.
enum class Remainder {
  pad,   ///< a last window with rows of no weight
  drop,  ///< not seen in this epoch
  wrap,  ///< the last window is filled up from the epoch's first rows
};
const char* to_string(Remainder choice);
/// @throws Error(config) listing the choices.
Remainder parse_remainder(const std::string& name);

struct SamplerOptions {
  int64_t total = 1;  ///< rows a window, over all ranks
  int64_t micro = 1;  ///< rows a micro batch, on one rank; total must be a multiple of micro * world
  int64_t rank = 0, world = 1;
  uint64_t seed = 0;
  bool shuffle = true;  ///< a new order each epoch; false: the rows as they are
  Remainder remainder = Remainder::pad;
  double epochs = 1;      ///< may be a fraction
  int64_t max_steps = 0;  ///< 0: what epochs say
};

class Sampler {
 public:
  /// Where training stands: the next window to hand out. Does not depend on the number of ranks.
  struct Position {
    int64_t epoch = 0, window = 0;
    bool operator==(const Position&) const = default;
  };
  static constexpr int64_t kNoRow = -1;  ///< a row of no weight

  /// @throws Error(config) for a total that micro * world does not divide, no rows, or no full window under `drop`.
  Sampler(int64_t num_rows, SamplerOptions options);

  /// Moves to the next window; false when all steps are done.
  bool next();
  /// This rank's rows of the current window, a list per micro batch; kNoRow for rows of no weight. Row j of the window
  /// goes to micro batch j / (micro · world), on rank (j / micro) mod world. Every rank has total / (micro · world)
  /// lists.
  const std::vector<std::vector<int64_t>>& micro_batches() const { return micro_batches_; }
  /// The whole window in order, as every rank sees it.
  const std::vector<int64_t>& window() const { return window_; }

  int64_t steps_per_epoch() const { return steps_per_epoch_; }
  int64_t total_steps() const { return total_steps_; }
  int64_t step() const { return step_; }  ///< windows handed out so far, over all epochs
  double epoch() const;                   ///< epochs done, with the fraction
  Position position() const;              ///< to be saved
  void restore(
      const Position& position);  ///< the next next() hands out that window. @throws Error(format) beyond the end
  std::string remainder_report()
      const;  ///< "7 rows do not fill the last window of an epoch: padded with 9 rows of no weight"

 private:
  void order_epoch(int64_t epoch);

  int64_t num_rows_;
  SamplerOptions options_;
  int64_t steps_per_epoch_ = 0, total_steps_ = 0, step_ = 0;
  int64_t ordered_epoch_ = -1;
  std::vector<int64_t> order_, window_;
  std::vector<std::vector<int64_t>> micro_batches_;
};

}  // namespace ft
