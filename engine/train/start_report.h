#pragma once
/// What a run says before its first step: where it runs, what it trains, what it will take. Pure text of plain figures.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/device/terminal.h"

namespace ft {

struct StartReport {
  std::string run_directory;
  std::string model;  ///< "demo/model (Qwen3, 12 layers)"
  int ranks = 1;
  int threads = 1;                   ///< of each rank
  std::vector<std::string> devices;  ///< of each rank: "cpu", "cuda:0 NVIDIA H200"; equal ones are counted
  /// "fsdp2: parameters, gradients and optimizer state split over 2 ranks, resharded after forward".
  std::string layout;
  std::string update;   ///< what updates overlap; "" nothing
  std::string compute;  ///< "fp32 (this CPU has no AVX512-BF16)"

  struct Memory {
    std::string kind;   ///< "nf4 base", "frozen", "masters", "gradients", "optimizer", "gathered units", "activations"
    int64_t bytes = 0;  ///< on each rank
  };
  std::vector<Memory> memory;
  std::optional<int64_t> offloaded_bytes;  ///< of `memory`, what lives on the host; nothing: no offload
  int64_t pinned_bytes = 0;                ///< of which page-locked, in whole pages
  int64_t mapped_bytes = 0;                ///< beside `memory`: in a file map that the ranks of a machine share
  int64_t available_bytes = 0;  ///< of this machine, or of a rank's GPU, before the run takes any; 0: not said
  bool on_gpus = false;
  int ranks_on_machine = 1;

  /// Kinds of modules that got LoRA, with their number: {"q_proj", 28}; empty without an adapter.
  std::vector<std::pair<std::string, int64_t>> lora_modules;
  int64_t trainable_parameters = 0, all_parameters = 0;
  int64_t tokens_per_step = 0;  ///< positions of a full window over all ranks
  int64_t steps = 0, steps_per_epoch = 0;
  std::vector<std::string> without_effect;  ///< memory modes that are asked for and do nothing here, and why
  std::vector<std::string> notes;           ///< what the user should know: rows dropped, samples cut
};

/// "trainable params: 1,234 || all params: 5,678 || trainable%: 21.7330", as PEFT's print_trainable_parameters writes
/// it.
std::string trainable_line(int64_t trainable, int64_t all);

/// The report's lines, painted for `terminal`.
std::string start_report_text(const StartReport& report, const Terminal& terminal);

}  // namespace ft
