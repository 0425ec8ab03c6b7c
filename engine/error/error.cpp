#include "engine/error/error.h"

namespace ft {

const char* to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::config:
      return "config";
    case ErrorKind::format:
      return "format";
    case ErrorKind::io:
      return "io";
    case ErrorKind::shape:
      return "shape";
    case ErrorKind::memory:
      return "memory";
    case ErrorKind::comm:
      return "comm";
    case ErrorKind::interrupt:
      return "interrupt";
    case ErrorKind::internal:
      return "internal";
  }
  return "internal";
}

Error::Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) { render(); }

Error& Error::at(std::string where) {
  if (where_.empty()) where_ = std::move(where);
  render();
  return *this;
}

Error& Error::key(std::string path) {
  if (path_.empty()) path_ = std::move(path);
  render();
  return *this;
}

Error& Error::help(std::string text) {
  if (help_.empty()) help_ = std::move(text);
  render();
  return *this;
}

Error& Error::context(std::string frame) {
  frames_.push_back(std::move(frame));
  render();
  return *this;
}

void Error::render() {
  text_.clear();
  if (!where_.empty()) text_ += where_ + ": ";
  if (!path_.empty()) text_ += path_ + ": ";
  text_ += message_;
  for (size_t i = 0; i < frames_.size(); ++i) text_ += (i == 0 ? "\n   while: " : ", ") + frames_[i];
  if (!help_.empty()) text_ += "\n   help: " + help_;
}

void check_failed(const char* expression, const char* file, int line, const std::string& message) {
  throw Error(ErrorKind::internal, message + " [" + expression + "] at " + file + ":" + std::to_string(line))
      .help("this is a bug in ftengine; please report it with the output of `ftengine --version`");
}

}  // namespace ft
