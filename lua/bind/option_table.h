#pragma once
/// The recipe's own options (ft.options): declared by the recipe, filled from the command line, --config FILE and
/// --set. Used by bind_options and by the constructors, whose faults blame the flag that set a value.

#include <string>
#include <vector>

#include "engine/schema/schema.h"

struct lua_State;

namespace ft {

struct Host;

/// An option as Lua declares it: { kind = "integer", default = …, help = …, above = …, … }; a kind may be several,
/// "integer or string".   @throws Error(config) for kinds and attributes that there are not
Option read_option(const std::string& key, const Value& declared);

/// One setting of the command line: `--lr 1e-4`, `--lr=1e-4`, `--pack`, `--no-pack`, `--set parallel.prefetch=false`.
struct Setting {
  std::string path;  ///< "lr", "parallel.prefetch"
  Value value;       ///< text, or a boolean for a bare flag; its origin names the flag
};

/// What the flags said.
struct Flags {
  bool help = false;
  std::string config;             ///< of --config FILE; "" without one
  std::vector<Setting> settings;  ///< in order
  std::string wrong;              ///< what is wrong with the command line (exit code 2); "" when nothing is
};

/// Reads the flags that follow the recipe; those that `declared` does not know are wrong.
Flags read_flags(const Schema& declared, const std::vector<std::string>& flags);

/// Values of the declared options: defaults, then the config file, then the settings. Appends faults.
Value fill_options(const Schema& declared, const Flags& flags, const Host& host, std::vector<Fault>& faults);

/// A default path as the recipe writes it, from the recipe's folder or the nearest folder above it in which it exists.
std::string default_path(const std::string& path, const std::string& recipe);

/// The page that --help prints.
std::string usage(const Schema& declared, const Host& host);

/// Origin of an option that was set (not left at its default); empty otherwise.
Origin option_origin(lua_State* state, const std::string& name);

}  // namespace ft
