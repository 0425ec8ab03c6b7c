#pragma once
/// The one exception of the engine. Thrown for what ends the run; ordinary failure (absent, end of data) is a return
/// value. A message has four parts, always in this order: where (file:line of the user's text), key or module path,
/// what (got and wanted), help. Callers add frames as it passes; main and the Lua boundary print it once.

#include <exception>
#include <string>
#include <vector>

namespace ft {

enum class ErrorKind {
  config,     ///< what the user wrote: a recipe, a profile, a flag
  format,     ///< a file that is not what it claims to be
  io,         ///< a file that cannot be read or written
  shape,      ///< tensors that do not fit together
  memory,     ///< host or device memory is out
  comm,       ///< another rank, or the way to it
  interrupt,  ///< the user asked to stop
  internal,   ///< a bug of ours
};

/// Returns the kind's name as messages and Lua error tables spell it: "config", "format", …
const char* to_string(ErrorKind kind);

class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string message);

  /// Names the user's text: "recipes/my.lua:18". The first call wins, since it stands closest to the fault.
  Error& at(std::string where);
  /// Names the key or module path: "parallel.offload_params", "model.layers.3.mlp.down_proj". The first call wins.
  Error& key(std::string path);
  /// Says what to do about it. The first call wins.
  Error& help(std::string text);
  /// Adds what was being done, innermost first: "while: loading layer 17".
  Error& context(std::string frame);

  ErrorKind kind() const { return kind_; }
  const std::string& message() const { return message_; }
  const std::string& where() const { return where_; }
  const std::string& path() const { return path_; }
  const std::string& help() const { return help_; }
  const std::vector<std::string>& frames() const { return frames_; }
  /// The whole text: "where: path: message\n   while: frame, frame\n   help: help", parts that are empty left out.
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  void render();

  ErrorKind kind_;
  std::string message_, where_, path_, help_, text_;
  std::vector<std::string> frames_;
};

/// Throws Error(internal) with the expression and place; for bugs only, never on user input.
[[noreturn]] void check_failed(const char* expression, const char* file, int line, const std::string& message);

}  // namespace ft

#define FT_CHECK(condition, message)                                 \
  do {                                                               \
    if (!(condition)) [[unlikely]]                                   \
      ::ft::check_failed(#condition, __FILE__, __LINE__, (message)); \
  } while (false)
