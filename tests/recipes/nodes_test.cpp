// Runs over several machines: launchers that meet, start again and go on with the nodes that are left; machines that
// vanish without a word, in network namespaces joined by veth (hosts.sh).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <thread>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kRecipe = R"(local ft = require "ft"
local opt = ft.options { out = { "output", default = "runs/nodes" }, steps = { "integer", default = 8 } }
local plan = ft.plan {
  model = ft.scratch { "parts/config.json", tokenizer = "parts", compute = "fp32" },
  data = { train = ft.completion { "corpus.jsonl", seq_len = 32, pack = false, limit = 48 } },
  optimizer = ft.adamw { lr = 1e-3 }, batch = { total = 6, micro = 1 }, max_steps = opt.steps,
  save = { dir = opt.out, every = 1, keep = 20 },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  --FAULT
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  local norm = run:clip(1.0)
  run:update()
  run:log { step = step, loss = run:sum(loss), grad_norm = norm }
end
run:finish()
)";

class Nodes : public testing::Test {
 protected:
  void SetUp() override {
    write_model_parts(folder_ / "parts");
    write_corpus(folder_ / "corpus.jsonl");
    write_recipe("");
  }
  void write_recipe(const std::string& fault) {
    std::string text = kRecipe;
    text.replace(text.find("--FAULT"), 7, fault);
    spill(folder_ / "nodes.lua", text);
  }
  /// Once, at step 5, on the last of two ranks.
  void plant(const std::string& fault) {
    write_recipe("if run.rank == 1 and step == 5 and not io.open('fallen') then io.open('fallen', 'w'):close() " +
                 fault + " end");
  }

  std::unique_ptr<Program> launch(int node, const std::string& out, std::vector<std::string> more = {}) {
    std::vector<std::string> words{"run",
                                   "nodes.lua",
                                   "--nproc=1",
                                   "--nnodes=2",
                                   "--node-rank=" + std::to_string(node),
                                   "--master-addr=127.0.0.1",
                                   "--master-port=" + std::to_string(port_),
                                   "--out=" + out};
    words.insert(words.end(), more.begin(), more.end());
    return std::make_unique<Program>(words, folder_.path());
  }

  void expect_same_figures(const std::string& one, const std::string& other) {
    const auto a = metrics(folder_ / one), b = metrics(folder_ / other);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i)
      for (const char* key : {"step", "loss", "grad_norm"})
        EXPECT_EQ(a[i].at(key).get<double>(), b[i].at(key).get<double>()) << key << ", row " << i + 1;
  }

  /// @return whether the run has come so far
  bool reaches_step(const std::string& out, size_t step) {
    for (int i = 0; i < 1200; ++i) {
      if (fs::exists(folder_ / out / "metrics.jsonl") && metrics(folder_ / out).size() >= step) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  }

  TemporaryDirectory folder_;
  int port_ = free_port();

 private:
  static int free_port() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t length = sizeof address;
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
    close(fd);
    return ntohs(address.sin_port);
  }
};

TEST_F(Nodes, StartAgainTogetherToTheBit) {
  for (const auto& [fault, message] :
       {std::pair<const char*, const char*>{"", ""}, {"os.execute('kill -9 $PPID')", "was ended by signal 9"}}) {
    fs::remove(folder_ / "fallen");
    plant(fault);
    const std::string out = *fault ? "again" : "whole";
    auto second = launch(1, out, {"--max-restarts=1"}), first = launch(0, out, {"--max-restarts=1"});
    const Finished head = first->wait(), other = second->wait();
    EXPECT_EQ(head.exit_code, 0) << head.err;
    EXPECT_EQ(other.exit_code, 0) << other.err;
    EXPECT_EQ(other.out, "");
    EXPECT_THAT(head.out, ContainsRegex("ranks +2 on "));
    // The first node names the one that failed, whatever its own rank has seen of that.
    EXPECT_THAT(head.err, HasSubstr(message));
    if (*fault)
      EXPECT_THAT(head.err, ContainsRegex("node 1 \\(.*\\): rank 1 of 2 .*(.|\n)*"
                                          "restart 1 of 1, 2 ranks on 2 nodes, from the newest checkpoint in .*again"));
    else
      EXPECT_EQ(head.err + other.err, "");
  }
  expect_same_figures("whole", "again");
}

TEST_F(Nodes, ALauncherThatIsKilledComesAgain) {
  write_recipe("os.execute('sleep 0.2')");
  auto second = launch(1, "killed", {"--max-restarts=1"}), first = launch(0, "killed", {"--max-restarts=1"});
  ASSERT_TRUE(reaches_step("killed", 3));
  second->signal(SIGKILL);
  second->wait();
  second = launch(1, "killed", {"--max-restarts=1"});
  const Finished head = first->wait(), other = second->wait();
  EXPECT_EQ(head.exit_code, 0) << head.err;
  EXPECT_EQ(other.exit_code, 0) << other.err;
  EXPECT_THAT(head.err, HasSubstr("node 1 ("));
  EXPECT_THAT(head.err, HasSubstr("its launcher was killed, or the machine went down"));
  EXPECT_THAT(head.err, HasSubstr("restart 1 of 1, 2 ranks on 2 nodes"));
  EXPECT_EQ(metrics(folder_ / "killed").size(), 8u);
}

TEST_F(Nodes, WhatWouldOnlyComeAgainEndsAll) {
  plant("error('no such luck')");
  auto second = launch(1, "refused", {"--max-restarts=2"}), first = launch(0, "refused", {"--max-restarts=2"});
  for (const Finished& done : {first->wait(), second->wait()}) {
    EXPECT_EQ(done.exit_code, 1);
    EXPECT_THAT(done.err, ContainsRegex("nodes.lua:[0-9]+: no such luck"));
    EXPECT_THAT(done.err, Not(HasSubstr("restart")));
  }
}

TEST_F(Nodes, AnInterruptOfOneEndsAll) {
  write_recipe("os.execute('sleep 0.2')");
  auto second = launch(1, "stopped", {"--max-restarts=2"}), first = launch(0, "stopped", {"--max-restarts=2"});
  ASSERT_TRUE(reaches_step("stopped", 2));
  second->signal(SIGTERM);
  const Finished head = first->wait(), other = second->wait();
  EXPECT_EQ(other.exit_code, 143) << other.err;
  EXPECT_GE(head.exit_code, 130) << head.err;
  EXPECT_THAT(head.err + other.err, Not(HasSubstr("restart")));
}

TEST_F(Nodes, TheDoctorSeesThemMeet) {
  const auto doctor = [&](int node) {
    return std::make_unique<Program>(
        std::vector<std::string>{"doctor", "--nproc=1", "--nnodes=2", "--node-rank=" + std::to_string(node),
                                 "--master-addr=127.0.0.1", "--master-port=" + std::to_string(port_)},
        folder_.path());
  };
  auto second = doctor(1), first = doctor(0);
  const Finished head = first->wait();
  EXPECT_EQ(head.exit_code, 0) << head.err;
  EXPECT_EQ(second->wait().exit_code, 0);
  EXPECT_THAT(head.out, ContainsRegex("ranks +0 on .*\n +1 on "));
}

TEST_F(Nodes, WhatIsMissingOrTooMuchIsSaid) {
  const Finished nobody = run({"run", "nodes.lua", "--nproc=1", "--nnodes=2"}, folder_.path());
  EXPECT_EQ(nobody.exit_code, 1);
  EXPECT_THAT(nobody.err, HasSubstr("--nnodes 2 without --node-rank"));
  const Finished nowhere = run({"run", "nodes.lua", "--nproc=1", "--nnodes=2", "--node-rank=1"}, folder_.path());
  EXPECT_THAT(nowhere.err, HasSubstr("--nnodes 2 without --master-addr"));
  auto alone = launch(0, "alone", {"--node-wait=1"});
  const Finished waited = alone->wait();
  EXPECT_EQ(waited.exit_code, 1);
  EXPECT_THAT(waited.err, HasSubstr("waited 1 s at port " + std::to_string(port_) + " for node 1 of 2"));
  EXPECT_EQ(run({"run", "nodes.lua", "--master-port=70000"}, folder_.path()).exit_code, 2);
}

TEST_F(Nodes, OneThatSaysOtherNumbersIsRefused) {
  auto first = launch(0, "numbers"), third = launch(2, "numbers", {"--nnodes=3"});
  const Finished refused = third->wait();
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err,
              HasSubstr("node 0 refuses this node: it says --nnodes 3 --node-rank 2, but the first node says "
                        "--nnodes 2"));
  EXPECT_TRUE(first->running()) << "it waits for the right one";
  auto second = launch(1, "numbers");
  EXPECT_EQ(first->wait().exit_code, 0);
  EXPECT_EQ(second->wait().exit_code, 0);
}

/// Machines of their own, as far as the network goes.
class Hosts : public Nodes {
 protected:
  void SetUp() override {
    Nodes::SetUp();
    const Finished tried = start(1, "true").get();
    if (tried.exit_code == 77) GTEST_SKIP() << "no network namespaces can be made here: " << tried.err;
    ASSERT_EQ(tried.exit_code, 0) << tried.err;
  }
  /// Runs a line of shell on each host, at 10.77.0.(HOST + 1).
  std::future<Finished> start(int hosts, const std::string& line) {
    return std::async(std::launch::async, [=, this] {
      return shell("timeout 120 " + (fs::path(ft_source_dir()) / "tests/recipes/hosts.sh").string() + " " +
                       std::to_string(hosts) + " . '" + line + "'",
                   folder_.path());
    });
  }
  std::string said(int host, const std::string& what) {
    return slurp(folder_ / ("host-" + std::to_string(host) + "." + what));
  }
  /// What started ranks by hand would say of each, one a host.
  static std::string ranks(int hosts) {
    return "export RANK=$HOST WORLD_SIZE=" + std::to_string(hosts) +
           " LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=10.77.0.1 MASTER_PORT=29500; ";
  }
};

TEST_F(Hosts, OneThatVanishesIsNamedAndAllStop) {
  write_recipe("os.execute(\"sleep 0.05\")");
  auto hosts =
      start(3, "export FTENGINE_HOST_TIMEOUT=3; " + ranks(3) + "ftengine run nodes.lua --steps 100000 --out cut");
  EXPECT_TRUE(reaches_step("cut", 3));
  spill(folder_ / "pull-2", "");
  EXPECT_EQ(hosts.get().exit_code, 0);
  const double pulled = std::stod(slurp(folder_ / "pulled-2"));
  for (int host = 0; host < 3; ++host) {
    EXPECT_EQ(said(host, "code"), "1\n") << said(host, "err");
    EXPECT_LT(std::stod(said(host, "end")) - pulled, 10) << "host " << host;
  }
  EXPECT_THAT(said(0, "err"), HasSubstr("(10.77.0.3), with rank 2, has not answered for 3 s"));
  EXPECT_THAT(said(0, "err"), HasSubstr("FTENGINE_HOST_TIMEOUT"));
  EXPECT_EQ(said(1, "err"), "") << "rank 0 has told the user";
  EXPECT_THAT(said(2, "err"), HasSubstr("(10.77.0.1), with rank 0, has not answered for 3 s"));
  EXPECT_THAT(slurp(folder_ / "cut" / "log-rank1.txt"), HasSubstr("(10.77.0.3), with rank 2"));
}

// As Debian writes /etc/hosts: a machine's own name is 127.0.1.1 to itself.
TEST_F(Hosts, OneThatTakesItsNameForLoopbackIsFound) {
  const Finished done =
      start(
          2,
          ranks(2) +
              "export MASTER_ADDR=head; [ $HOST = 0 ] && at=127.0.1.1 || at=10.77.0.1; echo $at head >hosts$HOST; "
              "unshare --mount sh -c \"mount --bind hosts$HOST /etc/hosts && exec ftengine run nodes.lua --out named\"")
          .get();
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(said(0, "code") + said(1, "code"), "0\n0\n") << said(0, "err") << said(1, "err");
  EXPECT_EQ(metrics(folder_ / "named").size(), 8u);
}

TEST_F(Hosts, OneWhoseProcessesStandStillHasNotVanished) {
  write_recipe(
      "if run.rank == 1 and step == 4 then io.open('stopped', 'w'):close() "
      "os.execute('(sleep 6; kill -CONT $PPID) & kill -STOP $PPID') end");
  const Finished done =
      start(2, "export FTENGINE_HOST_TIMEOUT=2; " + ranks(2) + "ftengine run nodes.lua --out still").get();
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(said(0, "code") + said(1, "code"), "0\n0\n") << said(0, "err") << said(1, "err");
  EXPECT_TRUE(fs::exists(folder_ / "stopped"));
  EXPECT_EQ(metrics(folder_ / "still").size(), 8u);
}

TEST_F(Hosts, ARunGoesOnWithoutTheOneThatVanished) {
  write_recipe("os.execute(\"sleep 0.1\")");
  auto hosts = start(2,
                     "ftengine run nodes.lua --steps 40 --out left --nproc 1 --nnodes 2 --node-rank $HOST "
                     "--master-addr 10.77.0.1 --max-restarts 1 --min-nproc 1 --node-wait 3");
  EXPECT_TRUE(reaches_step("left", 3));
  spill(folder_ / "pull-1", "");
  EXPECT_EQ(hosts.get().exit_code, 0);
  EXPECT_EQ(said(0, "code"), "0\n") << said(0, "err");
  EXPECT_EQ(said(1, "code"), "1\n") << said(1, "err");
  EXPECT_THAT(said(0, "err"), ContainsRegex("has not answered for 6 s(.|\n)*restart 1 of 1, 1 ranks on 1 node, "));
  EXPECT_EQ(metrics(folder_ / "left").size(), 40u);
}

}  // namespace
}  // namespace ft::test
