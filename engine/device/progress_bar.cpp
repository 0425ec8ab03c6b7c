#include "engine/device/progress_bar.h"

#include <algorithm>
#include <cmath>

#include "engine/device/figures.h"

namespace ft {
namespace {

constexpr auto kFrame = std::chrono::milliseconds(100);
constexpr int kBarColumns = 24;

std::string percent(double share) { return std::to_string(static_cast<int>(share * 100)) + "%"; }

}  // namespace

ProgressBar::ProgressBar(std::shared_ptr<Terminal> terminal, std::string title, int64_t total_bytes,
                         std::chrono::seconds plain_every)
    : terminal_(std::move(terminal)),
      title_(std::move(title)),
      total_(total_bytes),
      every_(terminal_->live() ? Clock::duration(kFrame) : Clock::duration(plain_every)) {
  if (terminal_->live()) show(begin_);
}

ProgressBar::~ProgressBar() {
  if (!finished_) terminal_->keep();
}

void ProgressBar::advance(int64_t bytes) {
  done_ += bytes;
  const auto now = Clock::now();
  const std::unique_lock lock(showing_, std::try_to_lock);
  if (!lock || now - shown_ < every_) return;
  shown_ = now;
  show(now);
}

void ProgressBar::finish() {
  if (finished_) return;
  finished_ = true;
  terminal_->erase();
  const double taken = seconds(Clock::now());
  terminal_->print(title_ + ": " + bytes_text(static_cast<double>(done_)) + " in " + short_text(taken) + " s");
}

void ProgressBar::show(Clock::time_point now) {
  const double done = static_cast<double>(done_), taken = seconds(now), rate = taken > 0 ? done / taken : 0;
  const double share = total_ > 0 ? std::clamp(done / static_cast<double>(total_), 0.0, 1.0) : 0;
  std::string line = title_;
  if (total_ > 0) {
    line += terminal_->live() ? " " + bar(share) + " " : ": ";
    line += percent(share) + " of " + bytes_text(static_cast<double>(total_));
  } else {
    line += ": " + bytes_text(done);
  }
  if (taken > 1) {
    line += ", " + bytes_text(rate) + "/s";
    if (rate > 0 && total_ > 0) line += ", " + duration_text((static_cast<double>(total_) - done) / rate) + " left";
  }
  if (terminal_->live())
    terminal_->draw(line);
  else
    terminal_->print(line);
}

std::string ProgressBar::bar(double share) const {
  // Eighths of a column: the bar moves even when a step is less than one.
  static const char* const kParts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::floor(share * kBarColumns * 8));
  std::string filled;
  for (int i = 0; i < eighths / 8; ++i) filled += "█";
  filled += kParts[eighths % 8];
  std::string rest(kBarColumns - columns(filled), ' ');
  return "|" + terminal_->paint(Style::cyan, filled) + rest + "|";
}

}  // namespace ft
