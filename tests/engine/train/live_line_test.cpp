#include "engine/train/live_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/train/start_report.h"

namespace ft {
namespace {

struct Screen {
  std::string text;
  std::shared_ptr<Terminal> terminal(bool live, bool color = false) {
    return std::make_shared<Terminal>([this](std::string_view out) { text += out; },
                                      Terminal::Options{.live = live, .color = color, .width = 200});
  }
  int64_t lines() const { return std::count(text.begin(), text.end(), '\n'); }
};

StepFigures figures(int64_t step) {
  return {.step = step,
          .loss = 1.5,
          .grad_norm = 0.25,
          .lr = 2e-4,
          .tokens = 1000,
          .seconds = 0.5,
          .memory_bytes = 1'500'000'000};
}

TEST(LiveLine, SaysWhatAPersonWants) {
  Screen screen;
  LiveLine line(screen.terminal(true), 101);
  line.show(figures(1));
  EXPECT_EQ(screen.text, "\r\x1b[2Kstep 1/101  loss 1.5000  grad 0.2500  lr 2.0e-04  2,000 tok/s  left 0:50  1.50 GB");
  auto second = figures(2);
  second.val_loss = 1.25;
  line.show(second);
  EXPECT_THAT(screen.text, testing::HasSubstr("\r\x1b[2Kstep 2/101  loss 1.5000  val_loss 1.2500"));
  EXPECT_EQ(screen.lines(), 0);
  screen.text += "\r\x1b[2Ksaving …";
  line.finish();
  EXPECT_THAT(screen.text, testing::EndsWith("1.50 GB\n"));  // the step's line is what stays
  EXPECT_EQ(screen.lines(), 1);
}

TEST(LiveLine, WithoutATerminalALineNowAndThen) {
  Screen screen;
  LiveLine line(screen.terminal(false), 100, std::chrono::seconds(3600));
  for (int step = 1; step <= 100; ++step) line.show(figures(step));
  line.finish();
  EXPECT_EQ(screen.lines(), 2);  // the first and the last
  EXPECT_THAT(screen.text, testing::StartsWith("step 1/100"));
  EXPECT_THAT(screen.text, testing::HasSubstr("\nstep 100/100"));
  EXPECT_THAT(screen.text, testing::Not(testing::HasSubstr("\x1b")));
}

TEST(LiveLine, ARunThatEndsEarlyStillShowsItsLastStep) {
  Screen screen;
  LiveLine line(screen.terminal(false), 100, std::chrono::seconds(3600));
  for (int step = 1; step <= 7; ++step) line.show(figures(step));
  line.finish();
  EXPECT_THAT(screen.text, testing::HasSubstr("\nstep 7/100"));
}

TEST(LiveLine, ALossThatIsNoNumberIsRed) {
  Screen screen;
  LiveLine line(screen.terminal(true, true), 100);
  auto broken = figures(1);
  broken.loss = std::nan("");
  EXPECT_THAT(line.text(broken), testing::HasSubstr("\x1b[31mnan\x1b[0m"));
}

TEST(LiveLine, SpeedFollowsTheLastSteps) {
  Screen screen;
  LiveLine line(screen.terminal(true), 1000);
  auto slow = figures(1);
  slow.seconds = 100;  // the first one warms up
  line.show(slow);
  for (int step = 2; step <= 5; ++step) line.show(figures(step));
  EXPECT_THAT(line.text(figures(5)), testing::HasSubstr("2,000 tok/s"));
}

TEST(StartReport, TheLineOfPeft) {
  EXPECT_EQ(trainable_line(1234567, 100000000),
            "trainable params: 1,234,567 || all params: 100,000,000 || trainable%: 1.2346");
  EXPECT_EQ(trainable_line(0, 0), "trainable params: 0 || all params: 0 || trainable%: 0.0000");
}

TEST(StartReport, SaysWhereItRunsAndWhatItTakes) {
  Screen screen;
  StartReport report;
  report.run_directory = "runs/demo-1";
  report.ranks = 2;
  report.devices = {"cpu", "cpu"};
  report.layout = "fsdp2, resharded after forward";
  report.memory = {{"nf4 base", 1'000'000}, {"optimizer", 500'000}};
  report.available_bytes = 8'000'000'000;
  report.ranks_on_machine = 2;
  report.lora_modules = {{"q_proj", 4}, {"v_proj", 4}};
  report.trainable_parameters = 1000;
  report.all_parameters = 10000;
  report.tokens_per_step = 8192;
  report.steps = 1200;
  report.steps_per_epoch = 400;
  EXPECT_EQ(start_report_text(report, *screen.terminal(false)),
            "run          runs/demo-1\n"
            "ranks        2 on 2 × cpu, 1 thread each\n"
            "layout       fsdp2, resharded after forward\n"
            "LoRA on      8 modules: q_proj, v_proj\n"
            "steps        1,200, 400 an epoch, 8,192 tokens each\n"
            "memory per rank\n"
            "  nf4 base     1.00 MB\n"
            "  optimizer     500 kB\n"
            "  total        1.50 MB  of 8.00 GB available on this machine for 2 ranks\n"
            "trainable params: 1,000 || all params: 10,000 || trainable%: 10.0000\n");
  report.devices = {"cuda:0 NVIDIA H200", "cuda:1 NVIDIA H200"};
  report.on_gpus = true;
  const std::string on_gpus = start_report_text(report, *screen.terminal(false));
  EXPECT_NE(on_gpus.find("ranks        2 on cuda:0 NVIDIA H200, cuda:1 NVIDIA H200, 1 thread each\n"), on_gpus.npos);
  EXPECT_NE(on_gpus.find("1.50 MB  of 8.00 GB available on its GPU\n"), on_gpus.npos);
  report.mapped_bytes = 2'000'000;
  report.without_effect = {"activation_offload: inputs are copied"};
  const std::string mapped = start_report_text(report, *screen.terminal(false));
  EXPECT_NE(mapped.find(
                "  in a file map, for all ranks    2.00 MB\n  no effect here: activation_offload: inputs are copied\n"),
            mapped.npos);
}

}  // namespace
}  // namespace ft
