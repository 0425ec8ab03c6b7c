#include "engine/merge/show_merge.h"

#include <optional>

#include "engine/device/figures.h"
#include "engine/device/progress_bar.h"

namespace ft {
namespace {

std::string closing_line(const MergeReport& report) {
  const std::string folded =
      report.folded ? ", LoRA folded into " + count_text(report.folded) + " linears" : std::string();
  return report.output.string() + ": " + std::to_string(report.files.size()) +
         (report.files.size() == 1 ? " file, " : " files, ") + bytes_text(static_cast<double>(report.bytes)) + ", " +
         count_text(report.parameters) + " parameters, " + report.source + folded + "; " +
         duration_text(report.seconds) + ", peak memory " + bytes_text(static_cast<double>(report.peak_bytes));
}

}  // namespace

MergeReport show_merge(const MergeOptions& options, const std::shared_ptr<Terminal>& terminal) {
  std::optional<ProgressBar> bar;
  uint64_t shown = 0;
  MergeReport report = merge(options, [&](const MergeProgress& progress) {
    if (!bar)
      bar.emplace(terminal, options.adapter_only ? "Writing Adapter" : "Merging Model Shards",
                  static_cast<int64_t>(progress.bytes_total));
    bar->advance(static_cast<int64_t>(progress.bytes_done - shown));
    shown = progress.bytes_done;
  });
  if (bar) bar->finish();
  if (!report.note.empty()) terminal->print(report.note);
  terminal->print(closing_line(report));
  return report;
}

}  // namespace ft
