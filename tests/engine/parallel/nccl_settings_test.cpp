#include "engine/parallel/nccl_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace ft {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::vector<std::string> kCards = {"cuda:0 NVIDIA GeForce RTX 4090", "cuda:1 NVIDIA GeForce RTX 4090"};

TEST(NcclSettings, AreThoseOfCardsWithoutPeers) {
  EXPECT_THAT(needed_nccl_settings({"cuda:0 NVIDIA H200", "cuda:1 NVIDIA H200"}), IsEmpty());
  EXPECT_THAT(needed_nccl_settings({"cuda:0 NVIDIA GeForce RTX 3090", "cuda:1 NVIDIA GeForce RTX 3090"}), IsEmpty());
  EXPECT_THAT(needed_nccl_settings({"cuda:0 NVIDIA GeForce RTX 4090"}), IsEmpty()) << "alone";
  EXPECT_THAT(needed_nccl_settings({"cpu", "cpu"}), IsEmpty());
  EXPECT_EQ(needed_nccl_settings({"cuda:0 NVIDIA H200", "cuda:0 NVIDIA GeForce RTX 5080"}).size(), 2u);
}

TEST(NcclSettings, AreSetUnlessTheUserDid) {
  setenv("NCCL_IB_DISABLE", "0", 1);
  unsetenv("NCCL_P2P_DISABLE");
  set_needed_nccl(kCards);
  EXPECT_STREQ(std::getenv("NCCL_P2P_DISABLE"), "1");
  EXPECT_STREQ(std::getenv("NCCL_IB_DISABLE"), "0");
  EXPECT_THAT(nccl_setting_lines(kCards),
              ElementsAre("NCCL_P2P_DISABLE=1: NVIDIA GeForce RTX 4090 cannot reach another card's memory",
                          "NCCL_IB_DISABLE=0: NVIDIA GeForce RTX 4090 cannot be reached by a network card, but that is "
                          "what the environment says"));
  unsetenv("NCCL_IB_DISABLE");
  unsetenv("NCCL_P2P_DISABLE");
}

}  // namespace
}  // namespace ft
