// A checkpoint saved on any layout goes on on any other: whole, LoRA and QLoRA, AdamW with 32 and 8 bits, SGD, sharded
// or in one file. What each layout trains is held to one process by the other tests here.
#include <gtest/gtest.h>

#include <fstream>

#include "engine/device/memory.h"
#include "engine/formats/json.h"
#include "tests/ranks/ranks.h"
#include "tests/ranks/tiny_model.h"
#include "tests/ranks/tiny_training.h"
#include "tests/temporary_directory.h"

namespace ft::test {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSaved = 5, kSteps = 15;

Value figures(const Trained& trained) {
  return Value::map({{"losses", Value(Value::List(trained.losses.begin(), trained.losses.end()))},
                     {"norms", Value(Value::List(trained.norms.begin(), trained.norms.end()))}});
}

}  // namespace

// Tasks: job, mesh and the checkpoint's directory. With `save` five steps, a checkpoint and ten more; else the ten
// steps that follow the checkpoint.   @return for each task losses and norms of the ten
RANK_BODY(train_tasks) {
  const Value tasks = parse_json(argument, "tasks");
  Value all = Value::list();
  for (const Value& task : tasks.as_list()) {
    const fs::path directory = task.at("directory").as_string();
    const std::string save = task.get("save", "");
    if (save.empty()) {
      const Checkpoint from(directory);
      all.as_list().push_back(figures(Training(task.at("job"), &task.at("mesh"), group, &from).train(kSaved, kSteps)));
      continue;
    }
    Training training(task.at("job"), &task.at("mesh"), group);
    training.train(0, kSaved);
    training.save(directory, save == "FULL_STATE_DICT" ? StateDict::full : StateDict::sharded);
    all.as_list().push_back(figures(training.train(kSaved, kSteps)));
  }
  return write_json(all);
}

// Saves a model of 15 million parameters in one file. @return by how many bytes this rank's memory grew at most, and
// what the file holds
RANK_BODY(save_in_one_file) {
  const TinySizes sizes{
      .vocab = 128, .dim = 384, .heads = 6, .kv_heads = 6, .head_dim = 64, .hidden = std::vector<int64_t>(8, 1152)};
  const Value plan =
      Value::map({{"model", Value::map({{"description", tiny_decoder(true, sizes)}, {"compute", "fp32"}})},
                  {"parallel", Value::map()}});
  const WeightSource source(nullptr, /*seed=*/3);
  ShardedModel model(plan, source, group);
  model.load(source, [](int64_t) {});
  auto optimizer = build_optimizer(adamw(), optimizer_pieces(model), &model.split_group());
  for (const StateTensor& state : optimizer->state()) at::Tensor(state.value).fill_(1);  // pages of their own
  const SharedDirectory directory(*group);
  std::ofstream("/proc/self/clear_refs") << 5;  // VmHWM begins anew
  const int64_t before = read_host_memory().resident;
  save_checkpoint(directory.path / "checkpoint-1", model, *optimizer, Value::map({{"step", 1}}), StateDict::full);
  const int64_t grown = read_host_memory().peak_resident - before;
  int64_t bytes = 0, files = 0;
  for (const auto& entry : fs::directory_iterator(directory.path / "checkpoint-1")) {
    bytes += static_cast<int64_t>(entry.file_size());
    files += 1;
  }
  EXPECT_EQ(files, 2);
  group->barrier();
  return std::to_string(grown) + " " + std::to_string(bytes);
}

namespace {

struct Layout {
  const char* name;
  int ranks;
  Value mesh;
  int stage = 3;
  bool reshard = true;

  int tensor() const { return static_cast<int>(mesh.get("tensor", 1)); }
  Value on(Value job) const { return with(with(std::move(job), "stage", stage), "reshard", reshard); }
};

Value mesh(int replicate, int shard, int context, int tensor) {
  return Value::map({{"replicate", replicate}, {"shard", shard}, {"context", context}, {"tensor", tensor}});
}

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all = {{"one", 1, mesh(1, 1, 1, 1)},
                                          {"zero1", 2, mesh(1, 2, 1, 1), 1},
                                          {"hsdp", 4, mesh(2, 2, 1, 1)},
                                          {"tp", 2, mesh(1, 1, 1, 2)},
                                          {"zero3", 2, mesh(1, 2, 1, 1)},
                                          {"cp x tp", 4, mesh(1, 1, 2, 2)},
                                          {"zero2", 2, mesh(1, 2, 1, 1), 2},
                                          {"fsdp2 x cp", 4, mesh(1, 2, 2, 1)},
                                          {"fsdp2 kept", 4, mesh(1, 4, 1, 1), 3, false},
                                          {"fsdp2 x tp", 4, mesh(1, 2, 1, 2)},
                                          {"ddp", 2, mesh(1, 2, 1, 1), 0},
                                          {"cp", 2, mesh(1, 1, 2, 1)}};
  return all;
}

// r 40: adapters of more than the 4096 elements from which on averages have 8 bits
std::vector<Value> jobs() {
  return {full(adamw8()), with(qlora(adamw()), "dropout", 0.1),
          full(adamw()),  with(with(qlora(adamw8()), "r", 40), "dropout", 0.1),
          full(sgd()),    with(lora(adamw()), "dropout", 0.1)};
}

struct Going {
  const Layout *from, *onto;
  Value job;
  std::string directory;
  std::vector<double> losses{}, norms{};  // uninterrupted where onto is null

  Value task(const char* save) const {
    const Layout& on = onto ? *onto : *from;
    return Value::map({{"job", on.on(job)}, {"mesh", on.mesh}, {"directory", directory}, {"save", save}});
  }
};

// Runs all of them, those of a number of ranks together.
void train(std::vector<Going>& all, bool save) {
  for (const int ranks : {1, 2, 4}) {
    std::vector<Going*> here;
    Value tasks = Value::list();
    for (Going& going : all) {
      if ((going.onto ? going.onto : going.from)->ranks != ranks) continue;
      const bool whole = here.size() % 2 == 1;
      tasks.as_list().push_back(going.task(!save ? "" : whole ? "FULL_STATE_DICT" : "SHARDED_STATE_DICT"));
      here.push_back(&going);
    }
    if (here.empty()) continue;
    const std::string said = run_ranks(ranks, "train_tasks", write_json(tasks))[0];
    if (said.empty()) continue;  // a failure that run_ranks has told
    const Value found = parse_json(said, "figures");
    for (size_t i = 0; i < here.size(); ++i) {
      for (const Value& v : found.as_list()[i].at("losses").as_list()) here[i]->losses.push_back(v.as_number());
      for (const Value& v : found.as_list()[i].at("norms").as_list()) here[i]->norms.push_back(v.as_number());
    }
  }
}

TEST(Resume, goes_on_on_any_layout) {
  const TemporaryDirectory folder;
  std::vector<Going> saved, resumed;
  const std::vector<Layout>& on = layouts();
  const std::vector<Value> kinds = jobs();
  for (size_t i = 0; i < on.size(); ++i) {
    saved.push_back({&on[i], nullptr, kinds[i % kinds.size()], (folder / std::to_string(i) / "checkpoint-5").string()});
    fs::create_directories(fs::path(saved.back().directory).parent_path());
    // Itself and another; each is gone on on by another, too.
    for (const size_t step : {size_t{0}, size_t{3}})
      resumed.push_back({&on[i], &on[(i + step) % on.size()], saved.back().job, saved.back().directory});
  }
  train(saved, true);
  train(resumed, false);
  for (size_t i = 0; i < resumed.size(); ++i) {
    const Going &going = resumed[i], &want = saved[i / 2];
    SCOPED_TRACE(std::string(going.from->name) + " -> " + going.onto->name + " " + write_json(going.job));
    ASSERT_EQ(want.losses.size(), static_cast<size_t>(kSteps - kSaved));
    if (going.onto == going.from) {
      EXPECT_EQ(going.losses, want.losses) << "equal bits on the same layout";
      EXPECT_EQ(going.norms, want.norms);
      continue;
    }
    // Slices may cut the blocks of 8-bit averages anew.
    const bool anew = going.job.at("optimizer").get("bits", 32) == 8 && going.from->tensor() != going.onto->tensor();
    EXPECT_LE(worst(going.losses, want.losses), anew ? 1e-3 : 1e-5);
  }
}

TEST(Resume, the_gates_fail_without_the_optimizer_s_state) {
  const TemporaryDirectory folder;
  const Layout& on = layouts()[1];
  std::vector<Going> saved, resumed;
  for (const Value& job : {full(adamw()), full(adamw8()), with(qlora(adamw()), "dropout", 0.1)}) {
    saved.push_back({&on, nullptr, job, (folder / std::to_string(saved.size()) / "checkpoint-5").string()});
    fs::create_directories(fs::path(saved.back().directory).parent_path());
    resumed.push_back({&on, &on, with(job, "plant", "forget"), saved.back().directory});
  }
  train(saved, true);
  train(resumed, false);
  for (size_t i = 0; i < resumed.size(); ++i)
    EXPECT_GT(worst(resumed[i].losses, saved[i].losses), 1e-3) << write_json(saved[i].job);
}

TEST(Resume, one_file_is_written_tensor_by_tensor) {
  for (const std::string& said : run_ranks(2, "save_in_one_file")) {
    if (said.empty()) continue;
    const int64_t grown = std::stoll(said), written = std::stoll(said.substr(said.find(' ')));
    EXPECT_GT(written, int64_t{150} << 20);
    EXPECT_LT(grown, int64_t{16} << 20) << "the largest tensor has 1.7 MB, what travels at once 4 MB";
  }
}

}  // namespace
}  // namespace ft::test
