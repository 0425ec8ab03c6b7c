#pragma once
/// The process's one LuaJIT state: strict globals, `require` of the embedded standard library and of the user's modules
/// beside the recipe, collector pressure from native bytes, interruption. Made by tools/cli; one thread owns it.

#include <cstdint>
#include <string>
#include <vector>

#include "lua/vm/embedded_file.h"

struct lua_State;

namespace ft {

struct VmOptions {
  EmbeddedFiles files;         ///< the standard library under "ft/", unaltered
  std::string stdlib_on_disk;  ///< development: a folder that is looked in before the embedded files; "" for none
  /// Asked now and then while Lua is interpreted; true raises an `interrupt` error. Not asked once defer_interrupts has
  /// been called: a run saves first.
  bool (*interrupted)() = nullptr;
};

/// How a chunk ended.
struct Outcome {
  int exit_code = 0;  ///< 0, 1: an error, 2: the command line was wrong, 130: interrupted
  std::string error;  ///< the message in its four parts; empty when all is well
  std::string trace;  ///< Lua frames of an error, for --trace
  std::string kind;   ///< "config", "comm", …: ErrorKind's spelling; "usage", "exit"
};

class Vm {
 public:
  explicit Vm(const VmOptions& options);
  ~Vm();
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;

  lua_State* state() const { return state_; }
  /// Runs a Lua file; `require` looks beside it after the standard library. @param arguments become its `...`.
  Outcome run_file(const std::string& path, const std::vector<std::string>& arguments = {});
  /// Runs a module of the standard library ("ft.commands.generate"), which returns a function, with these arguments.
  Outcome run_module(const std::string& module, const std::vector<std::string>& arguments);

 private:
  Outcome call(int arguments);

  lua_State* state_;
};

/// Tells the collector of native bytes that a Lua object holds (negative: gives up). The collector sees only the few
/// bytes of a handle; without this it would let gigabytes of tensors wait. May run a collection step.
void native_bytes(lua_State* state, int64_t bytes);

/// From now on an interrupt is for the run to answer, between two steps.
void defer_interrupts(lua_State* state);

}  // namespace ft
