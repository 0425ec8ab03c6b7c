#include "engine/device/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace ft {
namespace {

constexpr const char* kReset = "\x1b[0m";
constexpr const char* kEraseLine = "\r\x1b[2K";

const char* escape(Style style) {
  switch (style) {
    case Style::plain:
      return "";
    case Style::bold:
      return "\x1b[1m";
    case Style::dim:
      return "\x1b[2m";
    case Style::red:
      return "\x1b[31m";
    case Style::yellow:
      return "\x1b[33m";
    case Style::green:
      return "\x1b[32m";
    case Style::cyan:
      return "\x1b[36m";
  }
  return "";
}

void write_fd(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // a reader that has gone must not end a run
    text.remove_prefix(static_cast<size_t>(n));
  }
}

bool set_and_not_empty(const char* name) {
  const char* text = std::getenv(name);
  return text && *text;
}

// Calls visit(bytes, is_escape) for each character and escape sequence.
template <class Visit>
void each_character(std::string_view text, Visit visit) {
  for (size_t at = 0; at < text.size();) {
    size_t length = 1;
    const bool is_escape = text[at] == '\x1b';
    if (is_escape) {
      while (at + length < text.size() && !std::isalpha(static_cast<unsigned char>(text[at + length]))) ++length;
      length = std::min(length + 1, text.size() - at);
    } else {
      while (at + length < text.size() && (static_cast<unsigned char>(text[at + length]) & 0xc0) == 0x80) ++length;
    }
    if (!visit(text.substr(at, length), is_escape)) return;
    at += length;
  }
}

}  // namespace

std::shared_ptr<Terminal> Terminal::on(int fd) {
  const char* kind = std::getenv("TERM");
  Options options;
  options.live = isatty(fd) && kind && std::strcmp(kind, "dumb") != 0;
  options.color = options.live && !set_and_not_empty("NO_COLOR");
  options.fd = options.live ? fd : -1;
  return std::make_shared<Terminal>([fd](std::string_view text) { write_fd(fd, text); }, options);
}

std::shared_ptr<Terminal> Terminal::silent() {
  return std::make_shared<Terminal>([](std::string_view) {}, Options{});
}

Terminal::Terminal(Write write, Options options) : write_(std::move(write)), options_(options) {}

Terminal::~Terminal() { keep(); }

int Terminal::width() const {
  winsize size{};
  if (options_.fd >= 0 && ioctl(options_.fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return options_.width;
}

std::string Terminal::paint(Style style, std::string_view text) const {
  if (!options_.color || style == Style::plain) return std::string(text);
  return escape(style) + std::string(text) + kReset;
}

void Terminal::print(std::string_view text) {
  const std::lock_guard lock(mutex_);
  std::string out = line_.empty() ? "" : kEraseLine;
  out += text;
  if (text.empty() || text.back() != '\n') out += '\n';
  write_(out + line_);
}

void Terminal::draw(std::string_view line) {
  if (!options_.live) return;
  const std::lock_guard lock(mutex_);
  // One column is left free: a full line would wrap on some terminals.
  line_ = cut(line, width() - 1);
  write_(kEraseLine + line_);
}

void Terminal::keep() {
  const std::lock_guard lock(mutex_);
  if (!line_.empty()) write_("\n");
  line_.clear();
}

void Terminal::erase() {
  const std::lock_guard lock(mutex_);
  if (!line_.empty()) write_(kEraseLine);
  line_.clear();
}

int columns(std::string_view text) {
  int count = 0;
  each_character(text, [&](std::string_view, bool is_escape) { return count += !is_escape, true; });
  return count;
}

std::string cut(std::string_view text, int width) {
  std::string result;
  int count = 0;
  bool colored = false, was_cut = false;
  each_character(text, [&](std::string_view character, bool is_escape) {
    colored |= is_escape;
    if (!is_escape && ++count > width) return !(was_cut = true);
    result += character;
    return true;
  });
  if (was_cut && colored) result += kReset;
  return result;
}

}  // namespace ft
