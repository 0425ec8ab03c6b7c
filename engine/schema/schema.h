#pragma once
/// The option registry: one declaration is the check, the default, the printed usage and the reference page. A schema
/// belongs to a constructor of the Lua side (ft.lora{…}) or to a block of the plan (batch, save); the recipe's own
/// options (ft.options) are a schema that the recipe states. No thread rules: schemas are values.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/schema/fault.h"
#include "engine/schema/value.h"

namespace ft {

/// What an option takes; several may be joined: kInteger | kString.
enum OptionKind : uint32_t {
  kInteger = 1,
  kNumber = 2,
  kBoolean = 4,
  kString = 8,
  kPath = 16,  ///< a string; a default is resolved against the recipe's folder
  kList = 32,  ///< of strings or numbers
  kMap = 64,
  kBlock = 128,    ///< a table with a schema of its own (Option::schemas), by its field `kind` or the only one there is
  kProfile = 256,  ///< a name of configs/profiles, a YAML file, or a block of `schemas`
};

struct Option {
  std::string key;
  uint32_t kinds = kString;
  std::string doc{};  ///< effect, unit, and what it costs
  Value fallback{};   ///< null: stays absent, whose meaning `doc` tells
  bool required = false;
  std::optional<double> above{}, at_least{}, below{}, at_most{};
  std::vector<Value> allowed{};        ///< the only values, when not empty
  std::vector<std::string> schemas{};  ///< kBlock, kProfile: names of the schemas that may stand here
  std::string unless{};                ///< of a recipe's option: no default once this other option is given
};

/// An old or foreign spelling of a key: read as `to`, with a warning that says why.
struct Rename {
  std::string from, to, note;
};

/// A spelling of a value that users of other tools try: refused with the way out.
struct Replacement {
  std::string key, value, help;
};

struct Schema {
  std::string name;  ///< "lora"; the constructor is ft.lora
  std::string doc;
  std::vector<Option> options;
  std::vector<Rename> renames{};
  std::vector<Replacement> replacements{};
  std::string positional{};  ///< key of the table's first unnamed value
  bool open = false;         ///< takes any key (an architecture's config)

  const Option* find(std::string_view key) const;
  std::vector<std::string> keys() const;  ///< sorted
};

/// "integer", "boolean or string", …
std::string kind_text(uint32_t kinds);
/// "above 0", "at least 0, below 1"; "" for an option without limits.
std::string limits_text(const Option& option);

/// One value against its option; appends what is wrong. A block inside is checked by its own schema.
/// A string is read as the kind wanted where `text` says that it came from the command line ("2e-4" for a number).
void check_option(const Option& option, Value& value, const std::string& path, std::vector<Fault>& faults,
                  bool text = false);

/// Checks a table: unknown keys (with the nearest known one), renames, kinds, ranges, allowed values; fills defaults
/// in.
/// @param value a map; its keys come out in the schema's order.
/// @param path what messages call it: "ft.lora", "batch".
void check(const Schema& schema, Value& value, const std::string& path, std::vector<Fault>& faults);

}  // namespace ft
