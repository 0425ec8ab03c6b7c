// Which device a rank takes: what is asked for, what is there, and what each lack is called.
#include "engine/parallel/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "engine/error/error.h"
#include "engine/parallel/cuda_plugin.h"
#include "engine/parallel/process_group.h"
#include "tests/thrown.h"

namespace ft {
namespace {

using testing::HasSubstr;

/// A variable of the environment for the length of a test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    value ? setenv(name, value, 1) : unsetenv(name);
  }
  ~Variable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

struct FakeGpu : ComputeDevice {
  explicit FakeGpu(int index)
      : ComputeDevice(c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)),
                      "cuda:" + std::to_string(index) + " Fake") {}
};

/// GPUs that a test makes up.
struct FakeAccess : GpuAccess, CudaDevices {
  int shown = 0, usable = 0;
  std::string plugin_problem, count_problem, open_problem;
  int opened = 0;

  int visible() const override { return shown; }
  CudaDevices* open(std::string& problem) override {
    ++opened;
    if (plugin_problem.empty()) return this;
    problem = plugin_problem;
    return nullptr;
  }
  int count(std::string& problem) override {
    if (usable == 0) problem = count_problem;
    return usable;
  }
  std::shared_ptr<ComputeDevice> open(int index) override {
    if (!open_problem.empty()) throw Error(ErrorKind::config, open_problem);
    return std::make_shared<FakeGpu>(index);
  }
};

std::shared_ptr<ComputeDevice> device_for(const DeviceWish& wish, int local_rank, GpuAccess& gpus) {
  std::string passed_over;
  return ft::device_for(wish, local_rank, gpus, passed_over);
}

std::string refusal(const DeviceWish& wish, int local_rank, GpuAccess& gpus) {
  const Error error = test::thrown([&] { device_for(wish, local_rank, gpus); });
  EXPECT_EQ(error.kind(), ErrorKind::config);
  EXPECT_FALSE(error.help().empty());
  return error.what();
}

class DeviceChoice : public ::testing::Test {
  Variable none_{"FTENGINE_DEVICE", nullptr}, all_{"CUDA_VISIBLE_DEVICES", nullptr};
};

TEST_F(DeviceChoice, TouchesNothingOfCudaWhereNoGpuIsShownOrWanted) {
  FakeAccess gpus;
  EXPECT_EQ(device_for({"auto"}, 0, gpus)->name(), "cpu");
  gpus.shown = gpus.usable = 2;
  EXPECT_TRUE(device_for({"cpu"}, 0, gpus)->is_cpu());
  EXPECT_EQ(gpus.opened, 0);
}

TEST_F(DeviceChoice, TakesTheGpuOfTheLocalRank) {
  FakeAccess gpus;
  gpus.shown = gpus.usable = 4;
  for (const char* wish : {"auto", "cuda"}) EXPECT_EQ(device_for({wish}, 3, gpus)->name(), "cuda:3 Fake");
  gpus.shown = 0;  // a driver whose nodes lie elsewhere: who asks is taken at their word
  EXPECT_EQ(device_for({"cuda"}, 1, gpus)->where().index(), 1);
}

TEST_F(DeviceChoice, AutoTakesTheCpuWhereAGpuCannotBeUsed) {
  FakeAccess gpus;
  std::string passed_over;
  const auto takes_the_cpu = [&] { return ft::device_for({"auto"}, 0, gpus, passed_over)->is_cpu(); };
  EXPECT_TRUE(takes_the_cpu());
  EXPECT_EQ(passed_over, "");
  gpus.shown = 1;
  gpus.plugin_problem = "no plugin";
  EXPECT_TRUE(takes_the_cpu());
  EXPECT_EQ(passed_over, "no plugin");
  gpus.plugin_problem.clear();
  gpus.count_problem = "no driver";
  EXPECT_TRUE(takes_the_cpu());
  EXPECT_EQ(passed_over, "no driver");
  gpus.usable = 1;
  gpus.open_problem = "too old";
  EXPECT_TRUE(takes_the_cpu());
  EXPECT_EQ(passed_over, "too old");
}

TEST_F(DeviceChoice, SaysWhatIsMissingWhereAGpuIsAskedFor) {
  FakeAccess gpus;
  gpus.plugin_problem = "the plugin is not there";
  EXPECT_THAT(refusal({"cuda"}, 0, gpus),
              HasSubstr("parallel.device: no GPU to compute on: none is shown in /dev, and the plugin is not there"));
  gpus.shown = 1;
  gpus.plugin_problem.clear();
  gpus.count_problem = "the driver is not there";
  EXPECT_THAT(refusal({"cuda", true}, 0, gpus),
              HasSubstr("environment: FTENGINE_DEVICE: no GPU to compute on: the driver is not there"));
  gpus.usable = 1;
  gpus.open_problem = "a card too old";
  EXPECT_THAT(refusal({"cuda"}, 0, gpus), HasSubstr("a card too old"));
}

TEST_F(DeviceChoice, RefusesMoreRanksThanGpusUnlessEachIsShownItsOwn) {
  FakeAccess gpus;
  gpus.shown = gpus.usable = 2;
  for (const char* wish : {"auto", "cuda"}) EXPECT_THAT(refusal({wish}, 2, gpus), HasSubstr("--nproc 2"));
  gpus.shown = gpus.usable = 1;
  EXPECT_THAT(refusal({"cuda"}, 1, gpus), HasSubstr("there are 1"));
  const Variable own("CUDA_VISIBLE_DEVICES", "1");
  EXPECT_EQ(device_for({"cuda"}, 1, gpus)->where().index(), 0);
}

TEST_F(DeviceChoice, TheEnvironmentComesBeforeThePlan) {
  EXPECT_EQ(DeviceWish::of("cuda").kind, "cuda");
  EXPECT_THROW(DeviceWish::of("tpu"), Error);
  const Variable said("FTENGINE_DEVICE", "cpu");
  EXPECT_EQ(DeviceWish::of("cuda").kind, "cpu");
  EXPECT_TRUE(DeviceWish::of("cuda").from_environment);
  EXPECT_EQ(default_gpu_ranks("auto"), 0);
  std::vector<std::string> names;
  EXPECT_TRUE(choose_device("cuda", *ProcessGroup::single(), names)->is_cpu());
  EXPECT_EQ(names, std::vector<std::string>{"cpu"});
  const Variable wrong("FTENGINE_DEVICE", "gpu");
  EXPECT_THROW(DeviceWish::of("auto"), Error);
}

TEST_F(DeviceChoice, OnTheCpuThereIsNothingToWaitFor) {
  const auto cpu = ComputeDevice::cpu();
  EXPECT_EQ(cpu->mark(), nullptr);
  EXPECT_EQ(cpu->enter(ComputeDevice::Queue::copies), nullptr);
  cpu->wait(nullptr);
  EXPECT_EQ(cpu->memory().total, 0);
}

// The plugin itself, where this machine has none of what it needs: a reason, never a crash.
TEST_F(DeviceChoice, OfAPluginThatIsNotThere) {
  const Variable plugin("FTENGINE_CUDA_PLUGIN", "/nowhere/libftengine_cuda.so");
  GpuAccess gpus;
  const std::string said = refusal({"cuda"}, 0, gpus);
  EXPECT_THAT(said, HasSubstr("the CUDA plugin cannot be opened"));
  EXPECT_THAT(said, HasSubstr("/nowhere/"));
  EXPECT_FALSE(cuda_plugin_exists());
  EXPECT_EQ(default_gpu_ranks("auto"), 0);  // whatever the driver shows
  const Variable there("FTENGINE_CUDA_PLUGIN", "/proc/self/exe");
  EXPECT_TRUE(cuda_plugin_exists());
}

}  // namespace
}  // namespace ft
