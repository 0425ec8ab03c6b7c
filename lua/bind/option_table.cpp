#include "lua/bind/option_table.h"

#include <algorithm>
#include <filesystem>

#include "engine/error/error.h"
#include "engine/formats/yaml.h"
#include "engine/schema/registry.h"
#include "lua/bind/native.h"

namespace ft {
namespace {

std::string underscores(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string first_part(const std::string& path) { return path.substr(0, path.find('.')); }

std::string unknown_flag(const Schema& declared, const std::string& flag) {
  std::vector<std::string> names{"--config",    "--set",    "--help",      "--nproc",       "--max-restarts",
                                 "--min-nproc", "--nnodes", "--node-rank", "--master-addr", "--master-port",
                                 "--node-wait", "--resume", "--trace"};
  for (const std::string& key : declared.keys()) names.push_back("--" + key);
  const std::string near = nearest(flag, names);
  return "unknown flag '" + flag + "'\n   help: " + (near.empty() ? "" : "did you mean '" + near + "'?  ") +
         "flags: " + enumerate(names);
}

std::string unknown_setting(const Schema& declared, const std::string& path) {
  const std::string near = nearest(first_part(path), declared.keys());
  return "--set " + path + ": this recipe has no option '" + first_part(path) +
         "'\n   help: " + (near.empty() ? "" : "did you mean '" + near + "'?  ") +
         "options: " + enumerate(declared.keys());
}

Value text_value(const std::string& text, const std::string& flag) {
  Value value(text);
  value.origin = {flag, 0};
  return value;
}

/// Puts a setting into the options; a dotted path goes into a block, whose profile is read first.
void put(const Schema& declared, const Host& host, Value& values, const Setting& setting, std::vector<Fault>& faults) {
  const size_t dot = setting.path.find('.');
  const std::string name = first_part(setting.path);
  const Option* option = declared.find(name);
  if (dot == std::string::npos) {
    values.set(name, setting.value);
    return;
  }
  Value* block = values.find(name);
  if (block && block->is_string() && (option->kinds & kProfile)) *block = read_profile(host, block->as_string());
  if (!block || !block->is_map() || setting.path.find('.', dot + 1) != std::string::npos) {
    faults.push_back({false,
                      setting.value.origin,
                      setting.path,
                      "is not an option of this recipe",
                      "options: " + enumerate(declared.keys()),
                      {}});
    return;
  }
  block->set(setting.path.substr(dot + 1), setting.value);
}

/// Takes the values of a YAML file; keys that the recipe does not declare are faults.
void take_config(const Schema& declared, const std::string& path, Value& values, std::vector<Fault>& faults) {
  const Value file = read_yaml(path);
  if (file.is_null()) return;
  if (!file.is_map())
    throw Error(ErrorKind::config, "got " + std::string(to_string(file.kind())) + ", want keys and values").at(path);
  for (const auto& [key, item] : file.as_map()) {
    if (declared.find(key)) {
      values.set(key, item);
      continue;
    }
    const std::string near = nearest(key, declared.keys());
    faults.push_back({false,
                      item.origin,
                      "",
                      "unknown key '" + key + "'",
                      (near.empty() ? "" : "did you mean '" + near + "'?  ") +
                          ("this recipe's options: " + enumerate(declared.keys())),
                      {}});
  }
}

/// The option that a key names, by its present or an older name.
const Option* option_of(const Schema& schema, const std::string& key) {
  for (const Rename& rename : schema.renames)
    if (rename.from == key) return schema.find(rename.to);
  return schema.find(key);
}

/// Reads command-line text inside a block by the block's schema.
void read_block_text(const Option& option, Value& block, const Schema* schema, std::vector<Fault>& faults) {
  if (!block.is_map() || !schema) return;
  for (auto& [key, item] : block.as_map())
    if (const Option* inner = option_of(*schema, key);
        inner && item.is_string() && item.origin.file.rfind("--", 0) == 0)
      check_option(*inner, item, option.key + "." + key, faults, true);
}

/// An option's value; one that a flag gave needs no key path beside the flag's name.
void check_given(const Option& option, Value& value, std::vector<Fault>& faults) {
  const bool flag = value.origin.file.rfind("--", 0) == 0;
  check_option(option, value, flag ? "" : option.key, faults, flag);
}

std::string default_text(const Option& option) {
  if (option.required) return "required";
  if (option.fallback.is_null()) return "";
  return "default " + (option.fallback.is_string() ? option.fallback.as_string() : describe(option.fallback));
}

}  // namespace

Flags read_flags(const Schema& declared, const std::vector<std::string>& given) {
  Flags out;
  const auto known = [&](const std::string& path) { return declared.find(first_part(path)) != nullptr; };
  for (size_t i = 0; i < given.size() && out.wrong.empty(); ++i) {
    const std::string& argument = given[i];
    if (argument == "--help" || argument == "-h") {
      out.help = true;
      continue;
    }
    if (argument.rfind("--", 0) != 0) {
      out.wrong = "unexpected argument '" + argument + "'\n   help: options are written --key value";
      break;
    }
    const size_t equals = argument.find('=');
    const std::string flag = argument.substr(0, equals), path = underscores(flag.substr(2));
    const bool negated = path.rfind("no_", 0) == 0 && !known(path) && known(path.substr(3));
    const Option* option = declared.find(path);
    if (!known(path) && !negated && flag != "--config" && flag != "--set") {
      out.wrong = unknown_flag(declared, flag);
    } else if (negated || (option && option->kinds == kBoolean && equals == std::string::npos &&
                           (i + 1 == given.size() || (given[i + 1] != "true" && given[i + 1] != "false")))) {
      Value value(!negated);
      value.origin = {flag, 0};
      out.settings.push_back({negated ? path.substr(3) : path, value});
    } else if (equals == std::string::npos && i + 1 == given.size()) {
      out.wrong = "'" + flag + "' wants a value";
    } else {
      const std::string text = equals == std::string::npos ? given[++i] : argument.substr(equals + 1);
      const size_t middle = text.find('=');
      if (flag == "--config")
        out.config = text;
      else if (flag != "--set")
        out.settings.push_back({path, text_value(text, flag)});
      else if (middle == std::string::npos)
        out.wrong = "'--set " + text + "' is not key=value";
      else if (!known(text.substr(0, middle)))
        out.wrong = unknown_setting(declared, text.substr(0, middle));
      else
        out.settings.push_back(
            {text.substr(0, middle), text_value(text.substr(middle + 1), "--set " + text.substr(0, middle))});
    }
  }
  return out;
}

Value fill_options(const Schema& declared, const Flags& flags, const Host& host, std::vector<Fault>& faults) {
  Value values = Value::map();
  for (const Option& option : declared.options) {
    const auto given = [&](const std::string& name) {
      return std::any_of(flags.settings.begin(), flags.settings.end(),
                         [&](const Setting& s) { return s.path == name; });
    };
    if (option.fallback.is_null() || (!option.unless.empty() && given(option.unless))) continue;
    Value& value = values.set(option.key, option.fallback);
    if ((option.kinds & kPath) && value.is_string()) value = Value(default_path(value.as_string(), host.recipe));
  }
  if (!flags.config.empty()) take_config(declared, flags.config, values, faults);
  for (const Setting& setting : flags.settings) put(declared, host, values, setting, faults);
  for (const Option& option : declared.options) {
    Value* value = values.find(option.key);
    if (!value || value->is_null()) {
      if (option.required)
        faults.push_back({false, {host.recipe, 0}, option.key, "is missing", "give --" + option.key + " …", {}});
      continue;
    }
    if ((option.kinds & kProfile) && value->is_string()) {
      const Origin origin = value->origin;
      try {
        *value = read_profile(host, value->as_string());
      } catch (Error& error) {
        error.at(origin.str());
        throw;
      }
      if (!origin.file.empty()) value->origin = origin;
    }
    if (option.kinds & kProfile)
      read_block_text(option, *value, option.schemas.empty() ? nullptr : find_schema(option.schemas[0]), faults);
    else
      check_given(option, *value, faults);
  }
  return values;
}

std::string default_path(const std::string& path, const std::string& recipe) {
  namespace fs = std::filesystem;
  if (path.empty() || fs::path(path).is_absolute() || fs::exists(path)) return path;
  std::error_code ignored;
  fs::path folder = fs::absolute(recipe, ignored).parent_path();
  const fs::path first = folder;
  for (;; folder = folder.parent_path()) {
    if (fs::exists(folder / path, ignored)) return (folder / path).string();
    if (folder == folder.parent_path() || folder.empty()) break;
  }
  return (first / path).string();
}

std::string usage(const Schema& declared, const Host& host) {
  std::string out =
      "usage: ftengine " + host.command + " " + host.recipe + " [--key value …]\n\noptions of this recipe:\n";
  size_t width = 0;
  for (const Option& option : declared.options)
    width = std::max(width, option.key.size() + kind_text(option.kinds).size() + 6);
  for (const Option& option : declared.options) {
    std::string left = "  --" + option.key + " " + kind_text(option.kinds);
    left.resize(std::max(left.size(), width), ' ');
    std::string right = option.doc;
    if (const std::string text = default_text(option); !text.empty()) right += (right.empty() ? "" : "; ") + text;
    out += left + "  " + right + "\n";
  }
  return out +
         "\nfor every recipe:\n"
         "  --config FILE         a YAML file that fills these options\n"
         "  --set key=value       one option, or an entry of a block: --set parallel.offload_params=true\n"
         "  --nproc N             ranks on this machine\n"
         "  --max-restarts N      start them again, from the newest checkpoint, when one was killed, crashed or hung\n"
         "  --min-nproc N         give ranks that fail up, as long as this many are left\n"
         "  --nnodes K            machines; with --node-rank I, from 0, and --master-addr HOST, which is number 0\n"
         "  --resume auto|DIR     go on with the run in --out, if there is one, or with that run or checkpoint\n"
         "  --trace               print Lua frames with an error\n";
}

}  // namespace ft
