#include "engine/train/wrapping.h"

#include <limits>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr int64_t kLeastParameters = 100'000'000;  // torch's size_based_auto_wrap_policy

// Parameters that a shard holds before the next unit begins another one.
int64_t least_parameters(const Value& parallel) {
  const std::string policy = parallel.get("auto_wrap_policy", "TRANSFORMER_BASED_WRAP");
  if (policy == "TRANSFORMER_BASED_WRAP") return 0;
  if (policy == "SIZE_BASED_WRAP") return parallel.get("min_num_params", kLeastParameters);
  if (policy == "NO_WRAP") return std::numeric_limits<int64_t>::max();
  throw Error(ErrorKind::config, "got '" + policy + "', want TRANSFORMER_BASED_WRAP, SIZE_BASED_WRAP or NO_WRAP")
      .key("parallel.auto_wrap_policy");
}

}  // namespace

std::vector<size_t> wrap_units(const Value& parallel, Model& model) {
  const int64_t least = least_parameters(parallel);
  std::vector<size_t> shard_of;
  size_t shard = 0;
  int64_t held = 0;
  for (const ModelUnit& unit : model.units()) {
    if (!shard_of.empty() && held >= least) {
      ++shard;
      held = 0;
    }
    shard_of.push_back(shard);
    for (const Parameter* parameter : unit.parameters) held += parameter->numel();
  }
  return shard_of;
}

}  // namespace ft
