#include "engine/parallel/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error/error.h"

namespace ft {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Policy policy(const Value& parallel, int ranks) { return Policy::from_plan(parallel, {.shard = ranks}); }

TEST(Policy, SplitsMoreWithEachStage) {
  const Policy ddp = policy(Value::map({{"zero_stage", 0}}), 2), one = policy(Value::map({{"zero_stage", 1}}), 2),
               two = policy(Value::map({{"zero_stage", 2}}), 2), three = policy(Value::map(), 2);
  EXPECT_FALSE(ddp.split_state || ddp.split_gradients || ddp.split_parameters);
  EXPECT_TRUE(one.split_state && !one.split_gradients && !one.split_parameters);
  EXPECT_TRUE(two.split_state && two.split_gradients && !two.split_parameters);
  EXPECT_TRUE(three.split_state && three.split_gradients && three.split_parameters);
  EXPECT_THAT(ddp.split_axes(), ElementsAre());
  EXPECT_THAT(ddp.replica_axes(), ElementsAre(Axis::replicate, Axis::shard, Axis::context));
  EXPECT_THAT(three.split_axes(), ElementsAre(Axis::shard, Axis::context));
  EXPECT_THAT(three.replica_axes(), ElementsAre(Axis::replicate));
}

TEST(Policy, KeepsParametersAsReshardAfterForwardSays) {
  const auto kept = [](const Value& reshard) {
    return policy(Value::map({{"reshard_after_forward", reshard}}), 4).kept_over;
  };
  EXPECT_EQ(kept(true), 0);
  EXPECT_EQ(kept(false), 1);
  EXPECT_EQ(kept(1), 1);
  EXPECT_EQ(kept(2), 2);
  EXPECT_EQ(kept(4), 0);  // as true
  EXPECT_EQ(policy(Value::map({{"reshard_after_forward", 1}}), 1).kept_over, 1);
}

TEST(Policy, RefusesWhatDoesNotFit) {
  const auto refusal = [](const Value& parallel) {
    try {
      policy(parallel, 4);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(
      refusal(Value::map({{"reshard_after_forward", 3}})),
      HasSubstr("parallel.reshard_after_forward: got 3, want true, false or a number that divides the 4 ranks"));
  EXPECT_THAT(refusal(Value::map({{"reshard_after_forward", 3}})), HasSubstr("numbers that do: 1, 2, 4"));
  EXPECT_THAT(refusal(Value::map({{"reshard_after_forward", 0}})), HasSubstr("got 0"));
  EXPECT_THAT(refusal(Value::map({{"zero_stage", 4}})), HasSubstr("parallel.zero_stage: got 4, want 0, 1, 2 or 3"));
}

TEST(Policy, SaysWhatItDoes) {
  EXPECT_EQ(policy(Value::map(), 4).text({.shard = 4}),
            "parameters, gradients and optimizer state split over 4 ranks, resharded after forward");
  EXPECT_EQ(policy(Value::map({{"zero_stage", 2}}), 2).text({.shard = 2, .tensor = 2}),
            "gradients and optimizer state split over 2 ranks, parameters whole, matrices over 2");
  EXPECT_EQ(policy(Value::map({{"zero_stage", 0}}), 2).text({.shard = 2}),
            "everything whole on each of 2 ranks, gradients summed");
  EXPECT_EQ(policy(Value::map({{"reshard_after_forward", 2}}), 4).text({.replicate = 2, .shard = 4}),
            "parameters, gradients and optimizer state split over 4 ranks, resharded over 2 after forward, on 2 groups "
            "alike");
}

}  // namespace
}  // namespace ft
