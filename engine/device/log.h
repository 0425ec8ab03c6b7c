#pragma once
/// The log: a file for each rank in the run directory, and on rank 0 warnings on the terminal. Every folder may write
/// to it through spdlog's default logger (spdlog::info and so on), which is the one global; this file sets it up.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/device/terminal.h"

namespace ft {

struct LogOptions {
  std::filesystem::path directory{};  ///< of the run; empty: no file
  int rank = 0;
  std::string level{};  ///< of the file: trace, debug, info, warn, error, off; empty: FTENGINE_LOG, else info
  std::shared_ptr<Terminal> terminal{};  ///< null on ranks without one
};

/// Opens log-rank<N>.txt and adds to it, with time, level and message a line; sends warnings and errors to the terminal
/// too, and with FTENGINE_LOG or `level` at debug or trace everything.
/// @throws Error(config) for a level that does not exist, Error(io) when the file cannot be opened.
void start_log(const LogOptions& options);

/// Writes what is buffered and closes the files; logging goes on to stderr, from warnings up.
void stop_log();

void log_debug(std::string_view text);
void log_info(std::string_view text);
void log_warning(std::string_view text);
void log_error(std::string_view text);

}  // namespace ft
