#include "engine/train/start_report.h"

#include <algorithm>
#include <cstdio>

#include "engine/device/figures.h"

namespace ft {
namespace {

constexpr int kLabelColumns = 12;
constexpr const char* kOffloaded = "of it offloaded to the host";
constexpr const char* kMapped = "in a file map, for all ranks";
constexpr const char* kPinned = "of it page-locked";

std::string padded_left(const std::string& text, int width) {
  return std::string(std::max(0, width - columns(text)), ' ') + text;
}

std::string padded_right(const std::string& text, int width) {
  return text + std::string(std::max(0, width - columns(text)), ' ');
}

// "2 × cpu", "cuda:0 NVIDIA H200, cuda:1 NVIDIA H200".
std::string devices_text(const std::vector<std::string>& devices) {
  std::string text;
  for (size_t i = 0; i < devices.size();) {
    size_t end = i;
    while (end < devices.size() && devices[end] == devices[i]) ++end;
    if (!text.empty()) text += ", ";
    text += (end - i > 1 ? std::to_string(end - i) + " × " : "") + devices[i];
    i = end;
  }
  return text;
}

std::string memory_table(const StartReport& report, const Terminal& terminal) {
  int64_t total = 0;
  int name_width = columns(report.mapped_bytes > 0 ? kMapped : report.offloaded_bytes ? kOffloaded : "total");
  for (const auto& entry : report.memory) {
    total += entry.bytes;
    name_width = std::max(name_width, columns(entry.kind));
  }
  std::string table = terminal.paint(Style::dim, "memory per rank") + "\n";
  const auto row = [&](const std::string& kind, int64_t bytes) {
    return "  " + padded_right(kind, name_width) + "  " + padded_left(bytes_text(static_cast<double>(bytes)), 9);
  };
  for (const auto& entry : report.memory) table += row(entry.kind, entry.bytes) + "\n";
  table += terminal.paint(Style::bold, row("total", total));
  if (report.available_bytes > 0) {
    table += "  of " + bytes_text(static_cast<double>(report.available_bytes)) + " available on " +
             (report.on_gpus ? "its GPU" : "this machine");
    if (report.ranks_on_machine > 1 && !report.on_gpus)
      table += " for " + std::to_string(report.ranks_on_machine) + " ranks";
  }
  table += "\n";
  if (report.offloaded_bytes)
    table += row(kOffloaded, *report.offloaded_bytes) + "\n" + row(kPinned, report.pinned_bytes) + "\n";
  if (report.mapped_bytes > 0) table += row(kMapped, report.mapped_bytes) + "\n";
  for (const std::string& mode : report.without_effect) table += "  no effect here: " + mode + "\n";
  return table;
}

}  // namespace

std::string trainable_line(int64_t trainable, int64_t all) {
  char share[32];
  std::snprintf(share, sizeof share, "%.4f",
                all > 0 ? 100.0 * static_cast<double>(trainable) / static_cast<double>(all) : 0);
  return "trainable params: " + count_text(trainable) + " || all params: " + count_text(all) +
         " || trainable%: " + share;
}

std::string start_report_text(const StartReport& report, const Terminal& terminal) {
  std::string text;
  const auto line = [&](const char* label, const std::string& value) {
    if (!value.empty()) text += terminal.paint(Style::dim, padded_right(label, kLabelColumns)) + " " + value + "\n";
  };
  line("run", report.run_directory);
  line("model", report.model);
  line("ranks", std::to_string(report.ranks) + " on " + devices_text(report.devices) + ", " +
                    std::to_string(report.threads) + (report.threads == 1 ? " thread each" : " threads each"));
  line("layout", report.layout);
  line("compute", report.compute);
  line("updates", report.update);
  std::string modules;
  int64_t count = 0;
  for (const auto& [kind, number] : report.lora_modules) {
    modules += (modules.empty() ? "" : ", ") + kind;
    count += number;
  }
  if (count > 0) line("LoRA on", count_text(count) + " modules: " + modules);
  std::string steps = count_text(report.steps);
  if (report.steps_per_epoch > 0) steps += ", " + count_text(report.steps_per_epoch) + " an epoch";
  if (report.tokens_per_step > 0) steps += ", " + count_text(report.tokens_per_step) + " tokens each";
  line("steps", steps);
  for (const std::string& note : report.notes) line("note", note);
  if (!report.memory.empty()) text += memory_table(report, terminal);
  return text + trainable_line(report.trainable_parameters, report.all_parameters) + "\n";
}

}  // namespace ft
