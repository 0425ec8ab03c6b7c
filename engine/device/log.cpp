#include "engine/device/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <mutex>

#include "engine/error/error.h"

namespace ft {
namespace {

// Lines above the terminal's live line.
class TerminalSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit TerminalSink(std::shared_ptr<Terminal> terminal) : terminal_(std::move(terminal)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const Style style = message.level >= spdlog::level::err    ? Style::red
                        : message.level == spdlog::level::warn ? Style::yellow
                                                               : Style::dim;
    const auto name = spdlog::level::to_string_view(message.level);
    terminal_->print(terminal_->paint(style, std::string_view(name.data(), name.size())) + ": " +
                     std::string(message.payload.data(), message.payload.size()));
  }
  void flush_() override {}

 private:
  std::shared_ptr<Terminal> terminal_;
};

spdlog::level::level_enum level_of(const std::string& option, spdlog::level::level_enum otherwise) {
  const char* variable = std::getenv("FTENGINE_LOG");
  const std::string name = !option.empty() ? option : variable ? variable : "";
  if (name.empty()) return otherwise;
  for (const auto& [known, level] :
       std::initializer_list<std::pair<const char*, spdlog::level::level_enum>>{{"trace", spdlog::level::trace},
                                                                                {"debug", spdlog::level::debug},
                                                                                {"info", spdlog::level::info},
                                                                                {"warn", spdlog::level::warn},
                                                                                {"error", spdlog::level::err},
                                                                                {"off", spdlog::level::off}})
    if (name == known) return level;
  throw Error(ErrorKind::config, "got '" + name + "', want trace, debug, info, warn, error or off")
      .at(option.empty() ? "environment" : "")
      .key(option.empty() ? "FTENGINE_LOG" : "log level");
}

std::shared_ptr<spdlog::logger> stderr_logger() {
  auto logger = std::make_shared<spdlog::logger>("ftengine", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(spdlog::level::warn);
  logger->set_pattern("%l: %v");
  return logger;
}

// spdlog's own first logger writes everything to stdout, which is no place for it.
spdlog::logger& logger() {
  static const bool replaced = [] {
    if (spdlog::default_logger()->name().empty()) spdlog::set_default_logger(stderr_logger());
    return true;
  }();
  (void)replaced;
  return *spdlog::default_logger_raw();
}

}  // namespace

void start_log(const LogOptions& options) {
  const auto level = level_of(options.level, spdlog::level::info);
  std::vector<spdlog::sink_ptr> sinks;
  if (!options.directory.empty()) {
    const auto path = options.directory / ("log-rank" + std::to_string(options.rank) + ".txt");
    try {
      auto file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
      file->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
      file->set_level(level);
      sinks.push_back(std::move(file));
    } catch (const spdlog::spdlog_ex& error) {
      throw Error(ErrorKind::io, std::string("cannot be opened: ") + error.what()).at(path.string());
    }
  }
  if (options.terminal) {
    auto terminal = std::make_shared<TerminalSink>(options.terminal);
    terminal->set_level(level <= spdlog::level::debug || level >= spdlog::level::warn ? level : spdlog::level::warn);
    sinks.push_back(std::move(terminal));
  }
  auto logger = std::make_shared<spdlog::logger>("ftengine", sinks.begin(), sinks.end());
  logger->set_level(level);
  logger->flush_on(spdlog::level::info);  // a rank that dies leaves its last words
  spdlog::set_default_logger(std::move(logger));
}

void stop_log() {
  spdlog::default_logger()->flush();
  spdlog::set_default_logger(stderr_logger());
}

void log_debug(std::string_view text) { logger().debug("{}", text); }
void log_info(std::string_view text) { logger().info("{}", text); }
void log_warning(std::string_view text) { logger().warn("{}", text); }
void log_error(std::string_view text) { logger().error("{}", text); }

}  // namespace ft
