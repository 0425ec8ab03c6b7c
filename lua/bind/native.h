#pragma once
/// The native half of the standard library: `require "ft.native"` in stdlib/ft, never in recipes. One function per file
/// group adds its entries to that table; each wrapper reads its arguments into plain values, calls once, pushes once.

#include <string>
#include <vector>

#include "engine/parallel/launch.h"
#include "engine/schema/value.h"
#include "lua/vm/embedded_file.h"

struct lua_State;

namespace ft {

/// What the command line told the program; lives as long as the VM.
struct Host {
  std::string command;                 ///< "run", "check", "plan", …
  std::string recipe;                  ///< its file; "" for commands without one
  std::vector<std::string> flags;      ///< what follows it, for the recipe's options
  std::vector<std::string> arguments;  ///< the whole argv, to start local ranks with
  int64_t nproc = 0;                   ///< --nproc; 0: what the plan says
  LaunchOptions launch{};              ///< --max-restarts, --min-nproc, --nnodes and so on; its nproc does not count
  std::string resume{};                ///< --resume: "auto", a run directory or a checkpoint; empty: a new run
  int64_t device_memory = 0;           ///< plan --device-memory; 0: not given
  int64_t host_memory = 0;             ///< plan --host-memory; 0: not given
  bool json = false;                   ///< check --json: its answer is one JSON object
  bool quiet = false;                  ///< a rank other than 0: warnings are not printed
  EmbeddedFiles files;
};

/// Makes `ft.native` loadable. @param host must outlive the state.
void open_native(lua_State* state, const Host& host);

/// The host given to open_native.
const Host& host_of(lua_State* state);

/// Adds `function` as `name` to the table on top.
void add_function(lua_State* state, const char* name, int (*function)(lua_State*));

/// Text at `index`.   @throws Error(config) "got number, want text: <what>"
std::string text_argument(lua_State* state, int index, const char* what);
/// A number at `index`, or `otherwise` for nil and none.
double number_argument(lua_State* state, int index, const char* what, const double* otherwise = nullptr);

// Each adds its functions to the table on top.
void bind_schema(lua_State* state);
void bind_faults(lua_State* state);
void bind_options(lua_State* state);
void bind_files(lua_State* state);
void bind_aten(lua_State* state);
void bind_tensor(lua_State* state);
void bind_tokenizer(lua_State* state);
void bind_chat_template(lua_State* state);
void bind_rows(lua_State* state);
void bind_row_source(lua_State* state);
void bind_model(lua_State* state);
void bind_memory_plan(lua_State* state);
void bind_modules(lua_State* state);
void bind_run(lua_State* state);

/// A profile as a map with origins: a name of configs/profiles (built in), or a YAML file.
/// @throws Error(config) listing the names for one that is neither; Error(format) as parse_yaml.
Value read_profile(const Host& host, const std::string& name);

}  // namespace ft
