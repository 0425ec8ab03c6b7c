// Files that the standard library reads by itself: JSON, YAML, profiles.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <lua.hpp>

#include "engine/error/error.h"
#include "engine/formats/foreign_checkpoint.h"
#include "engine/formats/json.h"
#include "engine/formats/peft_adapter.h"
#include "engine/formats/yaml.h"
#include "engine/schema/fault.h"
#include "lua/bind/native.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/values.h"

namespace ft {
namespace {

int read_json_file(lua_State* L) {
  return guarded(L, [&] {
    push_value(L, read_json(text_argument(L, 1, "a file's path")), true);
    return 1;
  });
}

/// native.null_keys(path) -> { key = true } for the keys of a JSON file's map that are null, which tables do not hold
int null_keys(lua_State* L) {
  return guarded(L, [&] {
    const Value read = read_json(text_argument(L, 1, "a file's path"));
    Value found = Value::map();
    if (read.is_map())
      for (const auto& [key, value] : read.as_map())
        if (value.is_null()) found.set(key, true);
    push_value(L, found);
    return 1;
  });
}

/// native.peft_options(dir) -> { r, alpha, dropout, use_rslora, target_modules } of a PEFT adapter, as far as it has
/// them
int peft_options(lua_State* L) {
  return guarded(L, [&] {
    push_value(L, PeftAdapter(text_argument(L, 1, "an adapter's directory")).options(), true);
    return 1;
  });
}

/// native.foreign_checkpoint(path) -> { adapter = { r, alpha, … } as far as an adapter_config.json says } of another
/// engine's training checkpoint, or nil; looks at names of files alone
int foreign_checkpoint(lua_State* L) {
  return guarded(L, [&] {
    const auto files = find_foreign_checkpoint(text_argument(L, 1, "a path"));
    if (!files) return 0;
    Value told = Value::map();
    if (!files->adapter_config.empty()) {
      const Value config = read_json(files->adapter_config);
      check_peft_config(config);
      told.set("adapter", plan_options(config));
    }
    push_value(L, told);
    return 1;
  });
}

int json_text(lua_State* L) {
  return guarded(L, [&] {
    const double flat = -1;
    const std::string text =
        write_json(to_value(L, 1, "value"), static_cast<int>(number_argument(L, 2, "indent", &flat)));
    lua_pushlstring(L, text.data(), text.size());
    return 1;
  });
}

int parse_json_text(lua_State* L) {
  return guarded(L, [&] {
    push_value(L, parse_json(text_argument(L, 1, "JSON"), lua_isstring(L, 2) ? lua_tostring(L, 2) : "text"));
    return 1;
  });
}

int exists(lua_State* L) {
  return guarded(L, [&] {
    std::error_code ignored;
    const auto status = std::filesystem::status(text_argument(L, 1, "a path"), ignored);
    if (!std::filesystem::exists(status)) return 0;
    lua_pushstring(L, std::filesystem::is_directory(status) ? "directory" : "file");
    return 1;
  });
}

int absolute_path(lua_State* L) {
  return guarded(L, [&] {
    const std::string given = text_argument(L, 1, "a path");
    std::error_code failed;
    const auto path = std::filesystem::absolute(given, failed).lexically_normal();
    if (failed) throw Error(ErrorKind::config, "got '" + given + "', want a path");
    lua_pushstring(L, path.c_str());
    return 1;
  });
}

/// native.list_folder(path) -> names of its entries, sorted.
int list_folder(lua_State* L) {
  return guarded(L, [&] {
    std::vector<std::string> names;
    std::error_code failed;
    for (const auto& entry : std::filesystem::directory_iterator(text_argument(L, 1, "a folder"), failed))
      names.push_back(entry.path().filename().string());
    if (failed) throw Error(ErrorKind::io, "cannot read the folder: " + failed.message()).at(lua_tostring(L, 1));
    std::sort(names.begin(), names.end());
    push_value(L, Value(Value::List(names.begin(), names.end())));
    return 1;
  });
}

/// native.yaml(path) -> its value, with the line of each entry, and of a map { { key=, line= }, … } in the file's
/// order, keys without a value included
int yaml_file(lua_State* L) {
  return guarded(L, [&] {
    const Value value = read_yaml(text_argument(L, 1, "a file's path"));
    Value::List keys;
    if (value.is_map())
      for (const auto& [key, item] : value.as_map())
        keys.push_back(Value::map({{"key", key}, {"line", item.origin.line}}));
    push_value(L, value, true);
    push_value(L, Value(std::move(keys)));
    return 2;
  });
}

/// native.embedded(name) -> text of a file that is inside the program, or nil
int embedded(lua_State* L) {
  return guarded(L, [&] {
    const EmbeddedFile* file = find_file(host_of(L).files, text_argument(L, 1, "a file's name"));
    if (!file) return 0;
    lua_pushlstring(L, file->bytes.data(), file->bytes.size());
    return 1;
  });
}

/// native.embedded_names(prefix) -> names of the files inside the program that begin so, sorted
int embedded_names(lua_State* L) {
  return guarded(L, [&] {
    const std::string prefix = text_argument(L, 1, "a prefix");
    Value::List names;
    for (const EmbeddedFile& known : host_of(L).files)
      if (known.name.starts_with(prefix)) names.emplace_back(std::string(known.name));
    push_value(L, Value(std::move(names)));
    return 1;
  });
}

/// native.make_folder(path): with the folders above it.
int make_folder(lua_State* L) {
  return guarded(L, [&] {
    const std::string path = text_argument(L, 1, "a folder");
    std::error_code failed;
    std::filesystem::create_directories(path, failed);
    if (failed) throw Error(ErrorKind::io, "cannot make the folder: " + failed.message()).at(path);
    return 0;
  });
}

int profile(lua_State* L) {
  return guarded(L, [&] {
    push_value(L, read_profile(host_of(L), text_argument(L, 1, "a profile")), true);
    return 1;
  });
}

}  // namespace

Value read_profile(const Host& host, const std::string& name) {
  const std::string extension = std::filesystem::path(name).extension().string();
  Value profile;
  if (extension == ".yaml" || extension == ".yml") {
    profile = read_yaml(name);
  } else if (const EmbeddedFile* file = find_file(host.files, "profiles/" + name + ".yaml")) {
    profile = parse_yaml(file->bytes, "configs/profiles/" + name + ".yaml");
  } else {
    std::vector<std::string> names;
    for (const EmbeddedFile& known : host.files)
      if (known.name.rfind("profiles/", 0) == 0) names.emplace_back(known.name.substr(9, known.name.size() - 14));
    const std::string near = nearest(name, names);
    throw Error(ErrorKind::config, "no profile '" + name + "'")
        .key("parallel")
        .help((near.empty() ? "" : "did you mean '" + near + "'?  ") +
              ("profiles: " + enumerate(names) + "; or the path of a .yaml file"));
  }
  if (!profile.is_map())
    throw Error(ErrorKind::config, "got " + describe(profile) + ", want keys and values").at(profile.origin.str());
  profile.set("profile", Value(name));
  return profile;
}

void bind_files(lua_State* L) {
  add_function(L, "read_json", read_json_file);
  add_function(L, "null_keys", null_keys);
  add_function(L, "peft_options", peft_options);
  add_function(L, "foreign_checkpoint", foreign_checkpoint);
  add_function(L, "to_json", json_text);
  add_function(L, "parse_json", parse_json_text);
  add_function(L, "exists", exists);
  add_function(L, "absolute", absolute_path);
  add_function(L, "list_folder", list_folder);
  add_function(L, "yaml", yaml_file);
  add_function(L, "embedded", embedded);
  add_function(L, "embedded_names", embedded_names);
  add_function(L, "make_folder", make_folder);
  add_function(L, "profile", profile);
}

}  // namespace ft
