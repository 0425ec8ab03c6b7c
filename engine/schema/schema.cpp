#include "engine/schema/schema.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "engine/schema/registry.h"

namespace ft {
namespace {

constexpr double kExact = 9007199254740992.0;  // 2^53: up to here a double holds every integer

struct KindName {
  uint32_t kind;
  const char* name;
};
constexpr KindName kKindNames[] = {{kInteger, "integer"}, {kNumber, "number"}, {kBoolean, "boolean"},
                                   {kString, "string"},   {kPath, "path"},     {kList, "list"},
                                   {kMap, "table"},       {kBlock, "block"},   {kProfile, "profile"}};

std::string join(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

std::string number_text(double v) {
  std::ostringstream out;
  out << v;
  return out.str();
}

std::string joined(const std::vector<std::string>& names, const char* before_last) {
  std::string out;
  for (size_t i = 0; i < names.size(); ++i)
    out += (i == 0 ? "" : i + 1 == names.size() ? before_last : ", ") + names[i];
  return out;
}

bool takes(uint32_t kinds, const Value& value) {
  switch (value.kind()) {
    case Value::Kind::boolean:
      return kinds & kBoolean;
    case Value::Kind::integer:
      return kinds & (kInteger | kNumber);
    case Value::Kind::number:
      return (kinds & kNumber) || ((kinds & kInteger) && std::trunc(value.as_number()) == value.as_number() &&
                                   std::abs(value.as_number()) <= kExact);
    case Value::Kind::string:
      return kinds & (kString | kPath | kProfile);
    case Value::Kind::list:
      return (kinds & kList) || ((kinds & (kMap | kBlock | kProfile)) && value.as_list().empty());
    case Value::Kind::map:
      return kinds & (kMap | kBlock | kProfile);
    case Value::Kind::null:
      return false;
  }
  return false;
}

/// Reads command-line text as the first kind it fits.
void read_text(uint32_t kinds, Value& value) {
  const std::string text = value.as_string();
  const Origin origin = value.origin;
  const char* end = text.data() + text.size();
  int64_t integer = 0;
  double number = 0;
  if ((kinds & (kInteger | kNumber)) && std::from_chars(text.data(), end, integer).ptr == end && !text.empty()) {
    value = Value(integer);
  } else if ((kinds & (kInteger | kNumber)) && std::from_chars(text.data(), end, number).ptr == end && !text.empty()) {
    value = Value(number);
  } else if ((kinds & kBoolean) && (text == "true" || text == "false")) {
    value = Value(text == "true");
  } else if ((kinds & kList) && !(kinds & (kString | kPath))) {
    Value::List items;
    std::stringstream in(text);
    for (std::string item; std::getline(in, item, ',');) items.emplace_back(item);
    value = Value(std::move(items));
  }
  value.origin = origin;
}

/// The limits of an option that hold, or do not hold, as messages state them.
struct Limit {
  std::string text;
  bool holds;
};
std::vector<Limit> limits_at(const Option& option, double v) {
  std::vector<Limit> out;
  if (option.above) out.push_back({"above " + number_text(*option.above), v > *option.above});
  if (option.at_least) out.push_back({"at least " + number_text(*option.at_least), v >= *option.at_least});
  if (option.below) out.push_back({"below " + number_text(*option.below), v < *option.below});
  if (option.at_most) out.push_back({"at most " + number_text(*option.at_most), v <= *option.at_most});
  return out;
}

void range(const Option& option, const Value& value, const std::string& path, std::vector<Fault>& faults) {
  if (!value.is_number()) return;
  std::string want;
  for (const Limit& limit : limits_at(option, value.as_number()))
    if (!limit.holds) want = limit.text;
  if (!want.empty())
    faults.push_back({false, value.origin, path, "got " + describe(value) + ", want " + want, option.doc, {}});
}

/// Refuses a value outside the allowed ones. @return whether it is one of them.
bool among(const Option& option, const Value& value, const std::string& path, std::vector<Fault>& faults) {
  if (option.allowed.empty()) return true;
  std::vector<std::string> names;
  for (const Value& allowed : option.allowed) {
    if (value == allowed || (value.is_number() && allowed.is_number() && value.as_number() == allowed.as_number()))
      return true;
    names.push_back(allowed.is_string() ? allowed.as_string() : describe(allowed));
  }
  const std::string near = value.is_string() ? nearest(value.as_string(), names) : "";
  faults.push_back({false,
                    value.origin,
                    path,
                    "got " + describe(value) + ", want " + joined(names, " or "),
                    near.empty() ? "" : "did you mean '" + near + "'?",
                    {}});
  return false;
}

void block(const Option& option, Value& value, const std::string& path, std::vector<Fault>& faults) {
  const Value* kind = value.find("kind");
  if (kind && kind->is_string()) {  // a constructor made it, and has checked it
    if (std::find(option.schemas.begin(), option.schemas.end(), kind->as_string()) != option.schemas.end()) return;
    std::vector<std::string> names;
    for (const std::string& name : option.schemas) names.push_back("ft." + name);
    faults.push_back(
        {false, value.origin, path, "got ft." + kind->as_string() + ", want " + joined(names, " or "), {}, {}});
    return;
  }
  if (option.schemas.size() == 1) {
    check(*find_schema(option.schemas[0]), value, path, faults);
    return;
  }
  std::vector<std::string> names;
  for (const std::string& name : option.schemas) names.push_back("ft." + name + " { … }");
  faults.push_back({false, value.origin, path, "got a plain table, want " + joined(names, " or "), {}, {}});
}

void unknown_key(const Schema& schema, const std::string& key, const Value& value, const std::string& path,
                 std::vector<Fault>& faults) {
  const std::string near = nearest(key, schema.keys());
  faults.push_back({false,
                    value.origin,
                    path,
                    "unknown key '" + key + "'",
                    (near.empty() ? "" : "did you mean '" + near + "'?  ") + ("keys: " + enumerate(schema.keys())),
                    {}});
}

/// The table with its renamed keys under their present names, unknown keys refused.
Value take_names(const Schema& schema, Value& value, const std::string& path, std::vector<Fault>& faults) {
  Value out = Value::map();
  for (auto& [key, item] : value.as_map()) {
    if (key == "kind") continue;
    std::string name = key;
    for (const Rename& rename : schema.renames) {
      if (rename.from != key) continue;
      name = rename.to;
      faults.push_back({true, item.origin, join(path, key), rename.note + "; read as " + join(path, name), {}, {}});
    }
    if (!schema.find(name) && !schema.open)
      unknown_key(schema, key, item, path, faults);
    else if (name != key && value.find(name))
      faults.push_back({false,
                        item.origin,
                        path + "." + key,
                        "given together with '" + name + "', which it is another name of",
                        "keep '" + name + "'",
                        {}});
    else
      out.set(name, std::move(item));
  }
  return out;
}

/// Refuses a value that is another tool's spelling. @return whether it did.
bool replaced(const Schema& schema, const Option& option, const Value& value, const std::string& path,
              std::vector<Fault>& faults) {
  for (const Replacement& replacement : schema.replacements) {
    if (replacement.key != option.key || !(value == Value(replacement.value))) continue;
    faults.push_back({false, value.origin, path, "got " + describe(value), replacement.help, {}});
    return true;
  }
  return false;
}

}  // namespace

const Option* Schema::find(std::string_view key) const {
  for (const Option& option : options)
    if (option.key == key) return &option;
  return nullptr;
}

std::vector<std::string> Schema::keys() const {
  std::vector<std::string> names;
  for (const Option& option : options) names.push_back(option.key);
  std::sort(names.begin(), names.end());
  return names;
}

std::string kind_text(uint32_t kinds) {
  std::vector<std::string> names;
  for (const KindName& entry : kKindNames)
    if (kinds & entry.kind) names.push_back(entry.name);
  return joined(names, " or ");
}

std::string limits_text(const Option& option) {
  std::string out;
  for (const Limit& limit : limits_at(option, 0)) out += (out.empty() ? "" : ", ") + limit.text;
  return out;
}

void check_option(const Option& option, Value& value, const std::string& path, std::vector<Fault>& faults, bool text) {
  if (text && value.is_string()) read_text(option.kinds, value);
  if (!takes(option.kinds, value)) {
    faults.push_back({false,
                      value.origin,
                      path,
                      std::string("got ") + (value.is_map() ? "table" : to_string(value.kind())) + " " +
                          describe(value) + ", want " + kind_text(option.kinds),
                      option.doc,
                      {}});
    return;
  }
  if (value.kind() == Value::Kind::number && (option.kinds & kInteger) && !(option.kinds & kNumber)) {
    const Origin origin = value.origin;
    value = Value(value.as_integer());
    value.origin = origin;
  }
  if (value.is_list() && value.as_list().empty() && !(option.kinds & kList)) {  // Lua's {} is a table without keys
    const Origin origin = value.origin;
    value = Value::map();
    value.origin = origin;
  }
  if (!among(option, value, path, faults)) return;
  range(option, value, path, faults);
  if (value.is_map() && (option.kinds & (kBlock | kProfile))) block(option, value, path, faults);
}

void check(const Schema& schema, Value& value, const std::string& path, std::vector<Fault>& faults) {
  if (value.is_list() && value.as_list().empty()) {  // Lua's {}
    const Origin origin = value.origin;
    value = Value::map();
    value.origin = origin;
  }
  Value named = take_names(schema, value, path, faults);
  Value out = Value::map();
  out.origin = value.origin;
  out.set("kind", schema.name);
  for (const Option& option : schema.options) {
    const std::string option_path = join(path, option.key);
    Value* item = named.find(option.key);
    const bool given = item && !item->is_null();
    if (!given && option.required)
      faults.push_back({false,
                        value.origin,
                        path.empty() ? "ft." + schema.name : path,
                        "'" + option.key + "' is missing",
                        option.doc,
                        {}});
    if (!given && option.fallback.is_null()) continue;
    Value checked = given ? *item : option.fallback;
    if (!replaced(schema, option, checked, option_path, faults)) check_option(option, checked, option_path, faults);
    out.set(option.key, std::move(checked));
  }
  if (schema.open)
    for (auto& [key, item] : named.as_map())
      if (!out.find(key)) out.set(key, std::move(item));
  value = std::move(out);
}

}  // namespace ft
