// Ranks that others start: srun, Open MPI's mpirun and torchrun, by the variables that each sets; and what `ftengine
// doctor` says of the machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>
#include <tuple>

#include "tests/recipes/small_model.h"
#include "tests/recipes/train_plan.h"

namespace ft::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using Variables = std::vector<std::pair<std::string, std::string>>;

const std::string kRecipe = std::string(R"(local ft = require "ft"
local opt = ft.options { out = { "output", default = "runs/launch" } }
local plan = ft.plan {
  model = ft.scratch { "parts/config.json", tokenizer = "parts", compute = "fp32" },
  data = { train = ft.completion { "corpus.jsonl", seq_len = 32, pack = false, limit = 24 } },
  optimizer = ft.adamw { lr = 1e-3 }, batch = { total = 4, micro = 1 }, max_steps = 3, save = { dir = opt.out },
}
)") + kTrainPlan;

class Launch : public testing::Test {
 protected:
  void SetUp() override {
    write_model_parts(folder_ / "parts");
    write_corpus(folder_ / "corpus.jsonl");
    spill(folder_ / "launch.lua", kRecipe);
  }
  void TearDown() override { clear(); }

  /// The recipe's losses, with ranks that have nothing but these variables.
  std::vector<double> losses(const std::string& out, const std::vector<Variables>& ranks,
                             const std::vector<std::string>& more = {}) {
    std::vector<std::unique_ptr<Program>> programs;
    for (const Variables& variables : ranks) {
      clear();
      for (const auto& [name, value] : variables) set(name, value);
      std::vector<std::string> words{"run", "launch.lua", "--out=" + out};
      words.insert(words.end(), more.begin(), more.end());
      programs.push_back(std::make_unique<Program>(words, folder_.path()));
    }
    clear();
    for (auto& program : programs) {
      const Finished done = program->wait(std::chrono::seconds(120));
      EXPECT_EQ(done.exit_code, 0) << out << ": " << done.err;
      if (program == programs.front())
        EXPECT_THAT(done.out, ContainsRegex("ranks +" + std::to_string(ranks.size()) + " on "));
      else
        EXPECT_EQ(done.out, "");
    }
    std::vector<double> all;
    for (const Json& row : metrics(folder_ / out)) all.push_back(row.at("loss").get<double>());
    return all;
  }

  TemporaryDirectory folder_;

 private:
  void set(const std::string& name, const std::string& value) {
    setenv(name.c_str(), value.c_str(), 1);
    names_.push_back(name);
  }
  void clear() {
    for (const std::string& name : names_) unsetenv(name.c_str());
    names_.clear();
  }
  std::vector<std::string> names_;
};

TEST_F(Launch, RanksMeetUnderEveryLaunchersVariables) {
  const std::vector<double> alone = losses("alone", {{}}, {"--nproc=1"});
  ASSERT_EQ(alone.size(), 3u);
  std::vector<Variables> srun, mpirun, torchrun;
  for (const std::string rank : {"0", "1"}) {
    srun.push_back({{"SLURM_PROCID", rank},
                    {"SLURM_LOCALID", "0"},
                    {"SLURM_NODEID", rank},
                    {"SLURM_JOB_ID", std::to_string(getpid())},
                    {"SLURM_STEP_ID", "0"},
                    {"SLURM_STEP_NUM_TASKS", "2"},
                    {"SLURM_STEP_NODELIST", "localhost,localhost"},
                    {"SLURM_STEP_TASKS_PER_NODE", "1(x2)"}});
    mpirun.push_back({{"OMPI_COMM_WORLD_RANK", rank},
                      {"OMPI_COMM_WORLD_SIZE", "2"},
                      {"OMPI_COMM_WORLD_LOCAL_RANK", rank},
                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                      {"OMPI_MCA_orte_hnp_uri", std::to_string(getpid()) + ".0;tcp://192.0.2.2:36701"}});
    torchrun.push_back({{"RANK", rank},
                        {"LOCAL_RANK", rank},
                        {"WORLD_SIZE", "2"},
                        {"LOCAL_WORLD_SIZE", "2"},
                        {"MASTER_ADDR", "a-name-that-nobody-resolves.invalid"},  // of one machine: loopback
                        {"MASTER_PORT", std::to_string(30000 + getpid() % 2000)}});
  }
  for (const auto& [name, ranks] : {std::pair{"srun", srun}, {"mpirun", mpirun}, {"torchrun", torchrun}}) {
    const std::vector<double> two = losses(name, ranks);
    ASSERT_EQ(two.size(), alone.size()) << name;
    for (size_t i = 0; i < two.size(); ++i) EXPECT_NEAR(two[i] / alone[i], 1, 1.3e-6) << name << " step " << i + 1;
  }
}

// The launchers themselves, where they are installed; two SLURM nodes want daemons, which docs/clusters.md's scripts
// were run under by hand.
TEST_F(Launch, RanksMeetUnderLaunchersThatAreInstalled) {
  const std::vector<double> alone = losses("alone", {{}}, {"--nproc=1"});
  int found = 0;
  for (const auto& [name, there, line] :
       {std::tuple<std::string, std::string, std::string>{"mpirun", "mpirun --version | grep -q 'Open MPI'",
                                                          "mpirun --allow-run-as-root --oversubscribe -n 2"},
        {"torchrun", "command -v torchrun", "torchrun --standalone --nproc-per-node 2 --no-python"}}) {
    if (shell(there, folder_.path()).exit_code != 0) continue;
    ++found;
    const Finished done = shell(line + " ftengine run launch.lua --out=by-" + name, folder_.path());
    EXPECT_EQ(done.exit_code, 0) << name << ": " << done.err;
    const std::vector<Json> two = metrics(folder_ / ("by-" + name));
    ASSERT_EQ(two.size(), alone.size()) << name;
    for (size_t i = 0; i < two.size(); ++i) EXPECT_NEAR(two[i].at("loss").get<double>() / alone[i], 1, 1.3e-6) << name;
  }
  if (found == 0) GTEST_SKIP() << "neither mpirun nor torchrun is installed";
}

// Two runs side by side on a network of their own, whose sockets are all theirs.
TEST_F(Launch, LocalRanksListenOnLoopbackAlone) {
  std::string text = kRecipe;
  text.replace(text.find("run:update()"), 12,
               "run:update() os.execute('cat /proc/net/tcp /proc/net/tcp6 >>' .. opt.out .. '.sockets')");
  spill(folder_ / "launch.lua", text);
  if (const Finished tried = shell("unshare --user --map-root-user --net ip link set lo up", folder_.path());
      tried.exit_code != 0)
    GTEST_SKIP() << "no network namespace can be made here: " << tried.err;
  const Finished done = shell(
      "unshare --user --map-root-user --net sh -c 'ip link set lo up && "
      "{ ftengine run launch.lua --nproc 2 --out one & ftengine run launch.lua --nproc 2 --out two && wait $!; }'",
      folder_.path());
  EXPECT_EQ(done.exit_code, 0) << done.err;
  int listening = 0;
  for (const char* run : {"one", "two"}) {
    EXPECT_EQ(metrics(folder_ / run).size(), 3u);
    std::istringstream rows(slurp(folder_ / (std::string(run) + ".sockets")));
    std::string number, local, remote, state, rest;
    while (rows >> number >> local >> remote >> state && std::getline(rows, rest)) {
      if (state != "0A") continue;  // LISTEN
      ++listening;
      EXPECT_THAT(local, testing::StartsWith("0100007F:")) << "127.0.0.1, as the kernel writes it";
    }
  }
  EXPECT_GE(listening, 6) << "each run's store, and each rank's own";
}

TEST_F(Launch, AWorldOfOneIsOneRank) {
  const Variables one{{"WORLD_SIZE", "1"}, {"LOCAL_RANK", "0"}, {"MASTER_ADDR", "0.0.0.0"}, {"MASTER_PORT", "29500"}};
  EXPECT_EQ(losses("one", {one}).size(), 3u);
}

TEST_F(Launch, ANameThatSeveralMachinesCannotResolveIsRefused) {
  setenv("RANK", "1", 1);
  setenv("WORLD_SIZE", "2", 1);
  setenv("LOCAL_WORLD_SIZE", "1", 1);
  setenv("MASTER_ADDR", "a-name-that-nobody-resolves.invalid", 1);
  setenv("MASTER_PORT", "29500", 1);
  const Finished refused = run({"run", "launch.lua", "--out=nowhere"}, folder_.path());
  for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) unsetenv(name);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("MASTER_ADDR: cannot resolve 'a-name-that-nobody-resolves.invalid'"));
}

TEST_F(Launch, TheDoctorSeesTheMachineAndHasRanksMeet) {
  setenv("GLOO_SOCKET_IFNAME", "lo", 1);
  const Finished doctor = run({"doctor", "--nproc=3"}, folder_.path());
  unsetenv("GLOO_SOCKET_IFNAME");
  EXPECT_EQ(doctor.exit_code, 0) << doctor.err;
  for (const char* title : {"LibTorch", "processor", "GPUs", "memory", "locked memory", "/dev/shm", "launcher"})
    EXPECT_THAT(doctor.out, ContainsRegex("(^|\n)" + std::string(title) + " "));
  EXPECT_THAT(doctor.out, HasSubstr("GLOO_SOCKET_IFNAME=lo"));
  EXPECT_THAT(doctor.out, ContainsRegex("\n +2 on "));
  EXPECT_THAT(doctor.out, ContainsRegex("all-reduce +67.1 MB in [0-9.]+ ms, [0-9.]+ GB/s a rank"));

  setenv("GLOO_SOCKET_IFNAME", "no-such-card", 1);
  const Finished apart = run({"doctor"}, folder_.path());
  unsetenv("GLOO_SOCKET_IFNAME");
  EXPECT_EQ(apart.exit_code, 1);
  EXPECT_THAT(apart.err, HasSubstr("no-such-card"));
  EXPECT_THAT(apart.out, Not(HasSubstr("all-reduce")));
  EXPECT_EQ(run({"doctor", "--nprc=3"}, folder_.path()).exit_code, 2);
}

}  // namespace
}  // namespace ft::test
