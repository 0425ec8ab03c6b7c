// Where optimizer state and activations lie changes no bit: paged state, saved and resumed either way; every n-th layer
// run again; inputs of layers brought home.
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <fstream>

#include "engine/formats/json.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_training.h"

namespace ft::test {
namespace {

std::string said(ProcessGroup& group, bool same) { return group.max(same ? 0 : 1) == 0 ? "equal " : "unequal "; }

// Bytes of this process's mappings of nameless files in the directory.
int64_t mapped_in(const std::filesystem::path& directory) {
  std::ifstream maps("/proc/self/maps");
  int64_t bytes = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(directory.string()) == std::string::npos) continue;
    char* end = nullptr;
    const auto begin = std::strtoull(line.c_str(), &end, 16);
    bytes += static_cast<int64_t>(std::strtoull(end + 1, nullptr, 16) - begin);
  }
  return bytes;
}

}  // namespace

// @param argument JSON: a list of jobs. Each is trained for four steps with its state in memory, paged, and both ways
// round over a checkpoint in the middle.
RANK_BODY(train_paged) {
  const SharedDirectory directory(*group);
  std::string answer;
  int number = 0;
  const Value jobs = parse_json(argument, "jobs");
  for (const Value& job : jobs.as_list()) {
    const Value paged = with(job, "pages", directory.path.string());
    Training plain(job, nullptr, group), first(paged, nullptr, group);
    EXPECT_FALSE(plain.model.pages_state());
    EXPECT_GT(first.optimizer->state_bytes(), 0);
    EXPECT_GE(mapped_in(directory.path), first.optimizer->state_bytes() + first.model.bytes().master);
    const Ended want = ended(plain, plain.train(0, 4));
    Trained trained = first.train(0, 2);
    const auto checkpoint = directory.path / ("checkpoint-" + std::to_string(++number));
    first.save(checkpoint);
    const Trained rest = first.train(2, 4);
    trained.losses.insert(trained.losses.end(), rest.losses.begin(), rest.losses.end());
    trained.norms.insert(trained.norms.end(), rest.norms.begin(), rest.norms.end());
    answer += said(*group, equal(want, ended(first, std::move(trained))));
    const Checkpoint from(checkpoint);
    Training resumed(job, nullptr, group, &from), resumed_paged(paged, nullptr, group, &from);
    const Ended again = ended(resumed, resumed.train(2, 4)),
                again_paged = ended(resumed_paged, resumed_paged.train(2, 4));
    EXPECT_EQ(again.trained.losses, rest.losses);
    answer += said(*group, equal(again, again_paged));
    answer += said(*group, again.state.size() == want.state.size() && at::equal(again.state[0], want.state[0]));
  }
  return answer;
}

// @param argument JSON: [job, changes]: trains the job as it is and with each change, a map of keys.
RANK_BODY(train_with_changes) {
  const Value given = parse_json(argument, "argument");
  Training plain(given.as_list()[0], nullptr, group);
  const Ended want = ended(plain, plain.train(0, 3));
  std::string answer;
  for (const Value& change : given.as_list()[1].as_list()) {
    Value job = given.as_list()[0];
    for (const auto& [key, value] : change.as_map()) job.set(key, value);
    Training changed(job, nullptr, group);
    answer += said(*group, equal(want, ended(changed, changed.train(0, 3))));
    if (job.get("activation_offload", false)) {
      // The inputs of two layers, four rows over the ranks, three steps; out and back.
      EXPECT_GT(changed.model.activation_home()->bytes_to_home(), 0);
      EXPECT_EQ(changed.model.activation_home()->bytes_to_home(), changed.model.activation_home()->bytes_to_device());
    }
  }
  return answer;
}

namespace {

class MemoryModes : public testing::TestWithParam<int> {};

TEST_P(MemoryModes, paged_state_changes_no_bit_and_is_resumed_either_way) {
  const Value jobs = Value::list({full(adamw()), full(adamw8()), qlora(adamw8())});
  EXPECT_EQ(run_ranks(GetParam(), "train_paged", write_json(jobs))[0],
            "equal equal equal equal equal equal equal equal equal ");
}

TEST_P(MemoryModes, checkpointing_some_layers_and_offloading_inputs_change_no_bit) {
  const Value changes =
      Value::list({Value::map({{"activation_checkpointing", true}}), Value::map({{"activation_checkpointing", 2}}),
                   Value::map({{"activation_checkpointing", true}, {"activation_offload", true}}),
                   Value::map({{"activation_checkpointing", 2}, {"activation_offload", true}}),
                   Value::map({{"activation_checkpointing", 1}, {"activation_offload", true}, {"pin", true}})});
  for (const Value& job : {full(adamw()), with(qlora(adamw8()), "dropout", 0.1)})
    EXPECT_EQ(run_ranks(GetParam(), "train_with_changes", write_json(Value::list({job, changes})))[0],
              "equal equal equal equal equal ");
}

INSTANTIATE_TEST_SUITE_P(Ranks, MemoryModes, testing::Values(1, 2, 4));

}  // namespace
}  // namespace ft::test
