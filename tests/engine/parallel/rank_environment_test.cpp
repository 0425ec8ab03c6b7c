#include "engine/parallel/rank_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/error/error.h"
#include "tests/thrown.h"

namespace ft {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Variables = std::vector<std::pair<const char*, const char*>>;

constexpr const char* kNames[] = {"RANK",
                                  "WORLD_SIZE",
                                  "LOCAL_RANK",
                                  "LOCAL_WORLD_SIZE",
                                  "MASTER_ADDR",
                                  "MASTER_PORT",
                                  "OMPI_COMM_WORLD_RANK",
                                  "OMPI_COMM_WORLD_SIZE",
                                  "OMPI_COMM_WORLD_LOCAL_RANK",
                                  "OMPI_COMM_WORLD_LOCAL_SIZE",
                                  "OMPI_MCA_orte_hnp_uri",
                                  "PMI_RANK",
                                  "PMI_SIZE",
                                  "PMI_ID",
                                  "PMIX_NAMESPACE",
                                  "MPI_LOCALRANKID",
                                  "MPI_LOCALNRANKS",
                                  "SLURM_PROCID",
                                  "SLURM_NODEID",
                                  "SLURM_LOCALID",
                                  "SLURM_JOB_ID",
                                  "SLURM_STEP_ID",
                                  "SLURM_STEP_NUM_TASKS",
                                  "SLURM_STEP_NODELIST",
                                  "SLURM_STEP_TASKS_PER_NODE"};

void set_only(const Variables& variables) {
  for (const char* name : kNames) unsetenv(name);
  for (const auto& [name, value] : variables) setenv(name, value, 1);
}

std::optional<RankEnvironment> with(const Variables& variables) {
  set_only(variables);
  return RankEnvironment::from_env();
}

std::string refusal(const Variables& variables) {
  const Error error = test::thrown([&] { with(variables); });
  EXPECT_EQ(error.kind(), ErrorKind::config);
  return error.what();
}

class RankEnvironmentTest : public testing::Test {
  void TearDown() override { set_only({}); }
};

TEST_F(RankEnvironmentTest, IsNothingWhereNobodyHasStartedRanks) {
  EXPECT_FALSE(with({}));
  EXPECT_FALSE(with({{"RANK", "0"}}));
  EXPECT_EQ(RankEnvironment::stated_world_size(), std::pair(0, std::string()));
}

TEST_F(RankEnvironmentTest, ReadsWhatTorchrunSets) {
  const auto second = with({{"RANK", "5"},
                            {"WORLD_SIZE", "8"},
                            {"LOCAL_RANK", "1"},
                            {"LOCAL_WORLD_SIZE", "4"},
                            {"MASTER_ADDR", "node0"},
                            {"MASTER_PORT", "29500"}});
  ASSERT_TRUE(second);
  EXPECT_EQ(second->rank, 5);
  EXPECT_EQ(second->world_size, 8);
  EXPECT_EQ(second->local_rank, 1);
  EXPECT_EQ(second->master_addr, "node0");
  EXPECT_EQ(second->master_port, 29500);
  EXPECT_FALSE(second->one_machine());
}

TEST_F(RankEnvironmentTest, AWorldOfOneIsOneRank) {
  const auto alone =
      with({{"WORLD_SIZE", "1"}, {"LOCAL_RANK", "0"}, {"MASTER_ADDR", "0.0.0.0"}, {"MASTER_PORT", "29500"}});
  ASSERT_TRUE(alone);
  EXPECT_EQ(alone->rank, 0);
  EXPECT_EQ(alone->world_size, 1);
}

TEST_F(RankEnvironmentTest, NamesTheVariableThatIsWrongOrMissing) {
  EXPECT_THAT(refusal({{"RANK", "8"}, {"WORLD_SIZE", "8"}, {"MASTER_PORT", "1"}}),
              HasSubstr("RANK: got '8', want an integer from 0 to 7"));
  EXPECT_THAT(refusal({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), HasSubstr("MASTER_PORT: is not set"));
  EXPECT_THAT(refusal({{"WORLD_SIZE", "8"}}), HasSubstr("RANK: is not set, but WORLD_SIZE is 8"));
  EXPECT_EQ(RankEnvironment::stated_world_size(), std::pair(8, std::string("WORLD_SIZE")));
  EXPECT_THAT(refusal({{"RANK", "0"},
                       {"WORLD_SIZE", "4"},
                       {"LOCAL_RANK", "0"},
                       {"LOCAL_WORLD_SIZE", "2"},
                       {"MASTER_PORT", "65536"},
                       {"MASTER_ADDR", "a"}}),
              HasSubstr("MASTER_PORT: got '65536', want an integer from 1 to 65535"));
  EXPECT_THAT(refusal({{"OMPI_COMM_WORLD_RANK", "0"},
                       {"OMPI_COMM_WORLD_SIZE", "4"},
                       {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                       {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                       {"OMPI_MCA_orte_hnp_uri", "7.0;tcp://203.0.113.9:36701"}}),
              HasSubstr("MASTER_ADDR: is not set, and mpirun ran on 203.0.113.9, where rank 0 is not"));
  EXPECT_THAT(refusal({{"PMI_RANK", "0"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "0"}, {"MPI_LOCALNRANKS", "2"}}),
              HasSubstr("MASTER_ADDR: is not set, and nothing else says on which machine rank 0 is"));
}

TEST_F(RankEnvironmentTest, ReadsAStepOfSlurms) {
  const Variables step = {{"SLURM_PROCID", "3"},
                          {"SLURM_STEP_NUM_TASKS", "5"},
                          {"SLURM_LOCALID", "1"},
                          {"SLURM_NODEID", "1"},
                          {"SLURM_JOB_ID", "77"},
                          {"SLURM_STEP_ID", "0"},
                          {"SLURM_STEP_NODELIST", "gpu[07-09]"},
                          {"SLURM_STEP_TASKS_PER_NODE", "2(x2),1"}};
  const auto place = with(step);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->rank, 3);
  EXPECT_EQ(place->world_size, 5);
  EXPECT_EQ(place->local_rank, 1);
  EXPECT_EQ(place->local_world_size, 2);
  EXPECT_EQ(place->master_addr, "gpu07");
  EXPECT_EQ(place->launcher, "srun");
  EXPECT_GE(place->master_port, 20000);
  EXPECT_LT(place->master_port, 30000);

  Variables other = step;
  other[5].second = "1";  // another step of the job
  EXPECT_NE(with(other)->master_port, place->master_port);
  Variables given = step;
  given.emplace_back("MASTER_ADDR", "10.1.2.3");
  given.emplace_back("MASTER_PORT", "4000");
  EXPECT_EQ(with(given)->master_addr, "10.1.2.3");
  EXPECT_EQ(with(given)->master_port, 4000);

  Variables shell = step;  // srun --pty bash: its user starts ranks as they like
  shell[1].second = "1";
  shell[0].second = "0";
  EXPECT_FALSE(with(shell));
}

TEST_F(RankEnvironmentTest, ReadsMpirun) {
  const auto here =
      with({{"OMPI_COMM_WORLD_RANK", "1"},
            {"OMPI_COMM_WORLD_SIZE", "2"},
            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
            {"OMPI_MCA_orte_hnp_uri", "833224704.0;tcp://192.0.2.2,10.0.0.1:36701;tcp6://[fd00::2]:47041"}});
  ASSERT_TRUE(here);
  EXPECT_EQ(here->master_addr, "127.0.0.1");
  const auto far = with({{"OMPI_COMM_WORLD_RANK", "2"},
                         {"OMPI_COMM_WORLD_SIZE", "4"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                         {"OMPI_MCA_orte_hnp_uri", "833224704.0;tcp://192.0.2.2,10.0.0.1:36701"}});
  EXPECT_EQ(far->master_addr, "192.0.2.2");
  EXPECT_EQ(far->rank, 2);
  EXPECT_EQ(far->local_rank, 0);
  const auto mpich = with({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}});
  EXPECT_EQ(mpich->rank, 1);
  EXPECT_TRUE(mpich->one_machine());
}

TEST(NodeList, FirstHost) {
  EXPECT_EQ(first_host("n[1-2]"), "n1");
  EXPECT_EQ(first_host("gpu[07-09,12],login"), "gpu07");
  EXPECT_EQ(first_host("alone"), "alone");
  EXPECT_EQ(first_host("a,b"), "a");
  EXPECT_EQ(first_host("rack[3,5]n[01-10]-ib,x"), "rack3n01-ib");
  EXPECT_EQ(first_host(""), "");
}

TEST(NodeList, TasksPerNode) {
  EXPECT_THAT(tasks_per_node("1(x2)"), ElementsAre(1, 1));
  EXPECT_THAT(tasks_per_node("2(x3),1"), ElementsAre(2, 2, 2, 1));
  EXPECT_THAT(tasks_per_node("8"), ElementsAre(8));
  for (const char* wrong : {"", "x", "1(x", "1(x2", "1(2)", "1;2", "0", "1(x999999999)", "-1"})
    EXPECT_THAT(tasks_per_node(wrong), IsEmpty()) << wrong;
}

}  // namespace
}  // namespace ft
