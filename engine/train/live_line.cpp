#include "engine/train/live_line.h"

#include <cmath>
#include <cstdio>

#include "engine/device/figures.h"

namespace ft {
namespace {

constexpr double kMeanShare = 0.1;  // of the newest step in the running means

std::string rate_text(double lr) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", lr);
  return text;
}

}  // namespace

LiveLine::LiveLine(std::shared_ptr<Terminal> terminal, int64_t total_steps, std::chrono::seconds plain_every)
    : terminal_(std::move(terminal)), total_steps_(total_steps), plain_every_(plain_every) {}

void LiveLine::show(const StepFigures& figures) {
  if (figures.step != counted_step_ && figures.seconds > 0) {
    // The first step also warms caches up: the second one's figures replace it.
    const double share = mean_seconds_ == 0 || counted_step_ == 1 ? 1 : kMeanShare;
    mean_seconds_ += share * (figures.seconds - mean_seconds_);
    mean_tokens_ += share * (static_cast<double>(figures.tokens) - mean_tokens_);
    counted_step_ = figures.step;
  }
  last_ = figures;
  last_was_printed_ = false;
  if (terminal_->live()) {
    terminal_->draw(text(figures));
    return;
  }
  const auto now = Clock::now();
  if (printed_ && now - *printed_ < plain_every_ && figures.step != total_steps_ && !figures.val_loss) return;
  printed_ = now;
  last_was_printed_ = true;
  terminal_->print(text(figures));
}

void LiveLine::finish() {
  if (terminal_->live()) {
    if (last_) terminal_->draw(text(*last_));  // "saving …" may stand there
    terminal_->keep();
  } else if (last_ && !last_was_printed_) {
    terminal_->print(text(*last_));
  }
  last_.reset();
}

std::string LiveLine::text(const StepFigures& figures) const {
  std::string line =
      "step " + terminal_->paint(Style::bold, std::to_string(figures.step)) + "/" + std::to_string(total_steps_);
  const auto add = [&](const char* name, const std::string& value, Style style = Style::plain) {
    line += "  " + terminal_->paint(Style::dim, name) + " " + terminal_->paint(style, value);
  };
  if (figures.loss) add("loss", short_text(*figures.loss), std::isfinite(*figures.loss) ? Style::cyan : Style::red);
  if (figures.val_loss) add("val_loss", short_text(*figures.val_loss), Style::green);
  if (figures.grad_norm)
    add("grad", short_text(*figures.grad_norm), std::isfinite(*figures.grad_norm) ? Style::plain : Style::red);
  if (figures.lr) add("lr", rate_text(*figures.lr));
  if (mean_seconds_ > 0)
    line += "  " + count_text(std::llround(mean_tokens_ / mean_seconds_)) + " " + terminal_->paint(Style::dim, "tok/s");
  if (mean_seconds_ > 0 && figures.step < total_steps_)
    add("left", duration_text(mean_seconds_ * static_cast<double>(total_steps_ - figures.step)));
  // Last, since a terminal of 80 columns may cut it.
  if (figures.memory_bytes > 0) line += "  " + bytes_text(static_cast<double>(figures.memory_bytes));
  return line;
}

}  // namespace ft
