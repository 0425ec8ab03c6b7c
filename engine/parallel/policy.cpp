#include "engine/parallel/policy.h"

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr int64_t kWholeState = 0, kSplitState = 1, kSplitGradients = 2, kSplitParameters = 3;

// reshard_after_forward -> Policy::kept_over
int ranks_kept_over(const Value& wanted, int split_ranks) {
  if (wanted.is_bool()) return wanted.as_bool() ? 0 : 1;
  const int64_t ranks = wanted.as_integer();
  if (ranks >= 1 && ranks <= split_ranks && split_ranks % ranks == 0)
    return ranks == split_ranks && ranks > 1 ? 0 : static_cast<int>(ranks);
  std::string fitting;
  for (int n = 1; n <= split_ranks; ++n)
    if (split_ranks % n == 0) fitting += (fitting.empty() ? "" : ", ") + std::to_string(n);
  throw Error(ErrorKind::config, "got " + std::to_string(ranks) + ", want true, false or a number that divides the " +
                                     std::to_string(split_ranks) + " ranks that parameters are split over")
      .key("parallel.reshard_after_forward")
      .help("numbers that do: " + fitting);
}

}  // namespace

Policy Policy::from_plan(const Value& parallel, const MeshShape& mesh) {
  const int64_t stage = parallel.get("zero_stage", kSplitParameters);
  if (stage < kWholeState || stage > kSplitParameters)
    throw Error(ErrorKind::config, "got " + std::to_string(stage) + ", want 0, 1, 2 or 3").key("parallel.zero_stage");
  Policy policy;
  policy.split_state = stage >= kSplitState;
  policy.split_gradients = stage >= kSplitGradients;
  policy.split_parameters = stage >= kSplitParameters;
  const Value* reshard = parallel.find("reshard_after_forward");
  if (reshard && !reshard->is_null() && policy.split_parameters)
    policy.kept_over = ranks_kept_over(*reshard, mesh.shard * mesh.context);
  return policy;
}

std::vector<Axis> Policy::split_axes() const {
  return split_state ? std::vector{Axis::shard, Axis::context} : std::vector<Axis>();
}

std::vector<Axis> Policy::replica_axes() const {
  return split_state ? std::vector{Axis::replicate} : std::vector{Axis::replicate, Axis::shard, Axis::context};
}

std::string Policy::text(const MeshShape& mesh) const {
  const int split = mesh.shard * mesh.context;
  const std::string ranks = std::to_string(split) + " ranks";
  std::string text;
  if (!split_state) {
    text = "everything whole on each of " + std::to_string(mesh.replicate * split) + " ranks, gradients summed";
  } else if (!split_parameters) {
    text = std::string(split_gradients ? "gradients and optimizer state" : "optimizer state") + " split over " + ranks +
           ", parameters whole";
  } else {
    text = "parameters, gradients and optimizer state split over " + ranks + ", ";
    text += kept_over == 0   ? "resharded after forward"
            : kept_over == 1 ? "kept gathered until the backward"
                             : "resharded over " + std::to_string(kept_over) + " after forward";
  }
  if (split_state && mesh.replicate > 1) text += ", on " + std::to_string(mesh.replicate) + " groups alike";
  if (mesh.context > 1) text += ", rows' positions over " + std::to_string(mesh.context);
  if (mesh.tensor > 1) text += ", matrices over " + std::to_string(mesh.tensor);
  return text;
}

}  // namespace ft
