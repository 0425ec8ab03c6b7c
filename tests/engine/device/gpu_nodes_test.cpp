#include "engine/device/gpu_nodes.h"

#include <gtest/gtest.h>

#include "tests/temporary_directory.h"

namespace ft {
namespace {

class GpuNodes : public ::testing::Test {
 protected:
  void node(const std::string& name) const { test::spill(dev_ / name, ""); }
  const test::TemporaryDirectory dev_;
};

TEST_F(GpuNodes, CountsWhatTheDriverMadeAndNothingElse) {
  EXPECT_EQ(visible_gpus(dev_ / "absent", nullptr), 0);
  for (const char* other : {"nvidiactl", "nvidia-uvm", "nvidia", "nvidia-modeset", "nvidia0p", "null"}) node(other);
  EXPECT_EQ(visible_gpus(dev_, nullptr), 0);
  node("nvidia0");
  node("nvidia11");
  EXPECT_EQ(visible_gpus(dev_, nullptr), 2);
}

TEST_F(GpuNodes, ReadsCudaVisibleDevicesAsCudaDoes) {
  for (int i = 0; i < 4; ++i) node("nvidia" + std::to_string(i));
  const std::pair<const char*, int> cases[] = {{"", 0},          {"-1", 0},      {"2", 1},
                                               {"0,1,3", 3},     {" 3 , 0 ", 2}, {"0,-1,1", 1},
                                               {"0,4,1", 1},     {"none", 0},    {"GPU-8932f937,GPU-1", 2},
                                               {"MIG-GPU-1", 1}, {"1,x,2", 1},   {"3,2,1,0", 4}};
  for (const auto& [value, count] : cases) EXPECT_EQ(visible_gpus(dev_, value), count) << "'" << value << "'";
}

TEST_F(GpuNodes, FindsTheOneOfWindows) {
  node("dxg");
  EXPECT_EQ(visible_gpus(dev_, nullptr), 1);
  EXPECT_EQ(visible_gpus(dev_, ""), 0);
}

}  // namespace
}  // namespace ft
