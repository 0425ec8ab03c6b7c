#include "engine/train/non_finite.h"

#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "engine/train/micro_batch.h"

namespace ft {
namespace {

constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

bool all_finite(const at::Tensor& tensor) { return at::isfinite(tensor).all().item<bool>(); }

struct Found {
  int64_t unit = kNone, micro_batch = 0;
};

// The first unit of this rank whose output is not finite. Every rank walks all of its micro batches, as gathering is
// collective.
Found first_output(ShardedModel& model, const std::vector<Batch>& window, const Context& context) {
  Found found;
  for (size_t i = 0; i < window.size(); ++i) {
    MicroBatch made = micro_batch(window[i], model.context_axis(), model.device()->where());
    made.context.training = context.training;
    made.context.loss_scale = context.loss_scale;
    made.context.seed = context.seed;
    made.context.step = context.step;
    model.schedule().forward(made.tokens, made.context, [&](size_t unit, const at::Tensor& output) {
      if (static_cast<int64_t>(unit) < found.unit && !all_finite(output))
        found = {static_cast<int64_t>(unit), static_cast<int64_t>(i)};
    });
  }
  return found;
}

// The backward goes from the last unit to the first: the first that spoils a gradient is the last one here.
Found first_gradient(ShardedModel& model) {
  for (size_t unit = model.shards().size(); unit-- > 0;)
    if (const at::Tensor grad = model.shards()[unit]->grad(); grad.defined() && !all_finite(grad))
      return {-static_cast<int64_t>(unit), 0};
  return {};
}

// The least over ranks, and the rank that found it.
std::pair<int, Found> first_of_all(ProcessGroup& group, const Found& mine) {
  const auto texts = group.all_gather_text(std::to_string(mine.unit) + " " + std::to_string(mine.micro_batch));
  std::pair<int, Found> first{0, {}};
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    char* rest = nullptr;
    const int64_t unit = std::strtoll(texts[rank].c_str(), &rest, 10);
    if (unit < first.second.unit) first = {static_cast<int>(rank), {unit, std::strtoll(rest, nullptr, 10)}};
  }
  return first;
}

}  // namespace

std::string find_non_finite(ShardedModel& model, const std::vector<Batch>& window, const Context& context) {
  ProcessGroup& group = model.group();
  if (const auto [rank, found] = first_of_all(group, first_output(model, window, context)); found.unit != kNone)
    return model.model().units()[static_cast<size_t>(found.unit)].name +
           " is the first unit whose output is not finite (rank " + std::to_string(rank) + ", micro batch " +
           std::to_string(found.micro_batch + 1) + " of " + std::to_string(window.size()) + ")";
  if (const auto [rank, found] = first_of_all(group, first_gradient(model)); found.unit != kNone)
    return "every output is finite, and " + model.shards()[static_cast<size_t>(-found.unit)]->name() +
           " is the first unit, from the last, whose gradient is not";
  return "every unit's output and gradient is finite: their sum is not";
}

}  // namespace ft
