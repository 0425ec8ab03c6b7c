// The methods of Python's values that a template may call; what would change a value is refused, as jinja2's immutable
// sandbox refuses it.
#include <algorithm>
#include <map>
#include <set>

#include "engine/template/evaluator.h"
#include "engine/template/python_text.h"

namespace ft::jinja {
namespace {

using Names = std::set<std::string_view>;

const Names& methods_of(const Datum& object) {
  static const Names kText{"capitalize",   "casefold",    "center",    "count",      "encode",       "endswith",
                           "expandtabs",   "find",        "format",    "format_map", "index",        "isalnum",
                           "isalpha",      "isascii",     "isdecimal", "isdigit",    "isidentifier", "islower",
                           "isnumeric",    "isprintable", "isspace",   "istitle",    "isupper",      "join",
                           "ljust",        "lower",       "lstrip",    "maketrans",  "partition",    "removeprefix",
                           "removesuffix", "replace",     "rfind",     "rindex",     "rjust",        "rpartition",
                           "rsplit",       "rstrip",      "split",     "splitlines", "startswith",   "strip",
                           "swapcase",     "title",       "translate", "upper",      "zfill"};
  static const Names kList{"append", "clear", "copy",   "count",   "extend", "index",
                           "insert", "pop",   "remove", "reverse", "sort"};
  static const Names kTuple{"count", "index"};
  static const Names kDict{"clear", "copy",    "fromkeys",   "get",    "items", "keys",
                           "pop",   "popitem", "setdefault", "update", "values"};
  static const Names kInteger{"as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
                              "from_bytes",       "imag",      "numerator",  "real",      "to_bytes"};
  static const Names kNumber{"as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real"};
  static const Names kRange{"count", "index", "start", "step", "stop"};
  static const Names kView{"isdisjoint", "mapping"};
  static const Names kLoop{"changed", "cycle"};
  static const Names kNone;
  switch (object.kind()) {
    case Kind::string:
      return kText;
    case Kind::list:
      return kList;
    case Kind::tuple:
      return kTuple;
    case Kind::dict:
      return kDict;
    case Kind::boolean:
    case Kind::integer:
      return kInteger;
    case Kind::number:
      return kNumber;
    case Kind::range:
      return kRange;
    case Kind::view:
      return kView;
    case Kind::loop:
      return kLoop;
    default:
      return kNone;
  }
}

std::string_view want_text(const Datum& value, const char* what) {
  if (value.is_undefined()) type_error(std::string(what) + " must be str, not Undefined");
  if (!value.is_string()) type_error(std::string(what) + " must be str, not " + type_name(value));
  return value.str();
}

Datum text_list(const std::vector<std::string_view>& parts, bool markup, Kind kind = Kind::list) {
  std::vector<Datum> out;
  for (const std::string_view part : parts) out.push_back(Datum::string(std::string(part), markup));
  return Datum::list(std::move(out), kind);
}

Datum stripped(const Datum& self, const Call& call, Strip side) {
  const Bound args(call, "strip", {"chars"});
  const bool markup = self.text().markup;
  if (!args.has(0) || args[0].is_none()) return Datum::string(std::string(strip(self.str(), side)), markup);
  if (!args[0].is_string()) type_error("strip arg must be None or str");
  const std::string_view chars = args[0].str();
  spend_steps(static_cast<int64_t>(chars.size() / 16));
  return Datum::string(std::string(strip(self.str(), side, &chars)), markup);
}

Datum split(const Datum& self, const Call& call, bool from_right) {
  const Bound args(call, "split", {"sep", "maxsplit"});
  const int64_t most = args.integer(1, -1);
  const bool markup = self.text().markup;
  if (!args.has(0) || args[0].is_none())
    return text_list(from_right ? rsplit_space(self.str(), most) : split_space(self.str(), most), markup);
  const std::string_view separator = want_text(args[0], "sep");
  if (separator.empty()) raise("ValueError", "empty separator");
  return text_list(from_right ? rsplit_at(self.str(), separator, most) : split_at(self.str(), separator, most), markup);
}

/// The part of a text that (start, end) of a method names, as characters.
std::string_view part_of(const Datum& self, const Bound& args, size_t first, int64_t& offset) {
  const int64_t size = length_of(self);
  const auto clamp = [&](size_t i, int64_t otherwise) {
    if (!args.has(i) || args[i].is_none()) return otherwise;
    int64_t at = want_int(args[i]);
    if (at < 0) at += size;
    return std::clamp<int64_t>(at, 0, size);
  };
  const bool beyond = args.has(first) && !args[first].is_none() && want_int(args[first]) > size;
  offset = clamp(first, 0);
  const int64_t end = clamp(first + 1, size);
  if (beyond || offset > end) {
    offset = -1;
    return {};
  }
  if (offset == 0 && end == size) return self.str();
  const std::vector<size_t> starts = char_starts(self.str());
  const size_t from = starts[static_cast<size_t>(offset)];
  return std::string_view(self.str()).substr(from, starts[static_cast<size_t>(end)] - from);
}

Datum starts_or_ends(const Datum& self, const Call& call, bool start) {
  const char* name = start ? "startswith" : "endswith";
  const Bound args(call, name, {"prefix", "start", "end"}, 1);
  int64_t offset = 0;
  const std::string_view part = part_of(self, args, 1, offset);
  const auto fits = [&](const Datum& affix) {
    if (!affix.is_string())
      type_error(std::string(name) + (args[0].is(Kind::tuple) ? "" : " first arg must be str or a tuple of str, not ") +
                 (args[0].is(Kind::tuple) ? " tuple elements must be str" : type_name(affix)));
    return offset >= 0 && (start ? part.starts_with(affix.str()) : part.ends_with(affix.str()));
  };
  if (!args[0].is(Kind::tuple)) return Datum::boolean(fits(args[0]));
  for (const Datum& affix : args[0].items().items)
    if (fits(affix)) return Datum::boolean(true);
  return Datum::boolean(false);
}

Datum find(const Datum& self, const Call& call, bool last, bool must) {
  const Bound args(call, "find", {"sub", "start", "end"}, 1);
  const std::string_view sub = want_text(args[0], "find() argument 1");
  int64_t offset = 0;
  const std::string_view part = part_of(self, args, 1, offset);
  const size_t at = offset < 0 ? std::string_view::npos : last ? part.rfind(sub) : part.find(sub);
  if (at == std::string_view::npos) {
    if (must) raise("ValueError", "substring not found");
    return Datum::integer(-1);
  }
  return Datum::integer(offset + count_chars(part.substr(0, at)));
}

Datum count(const Datum& self, const Call& call) {
  const Bound args(call, "count", {"sub", "start", "end"}, 1);
  const std::string_view sub = want_text(args[0], "count() argument 1");
  int64_t offset = 0;
  const std::string_view part = part_of(self, args, 1, offset);
  if (offset < 0) return Datum::integer(0);
  if (sub.empty()) return Datum::integer(count_chars(part) + 1);
  return Datum::integer(static_cast<int64_t>(split_at(part, sub, -1).size()) - 1);
}

Datum partition(const Datum& self, const Call& call, bool last) {
  const Bound args(call, "partition", {"sep"}, 1);
  const std::string_view sep = want_text(args[0], "sep"), text = self.str();
  if (sep.empty()) raise("ValueError", "empty separator");
  const size_t at = last ? text.rfind(sep) : text.find(sep);
  if (at == std::string_view::npos)
    return text_list(last ? std::vector<std::string_view>{"", "", text} : std::vector<std::string_view>{text, "", ""},
                     self.text().markup, Kind::tuple);
  return text_list({text.substr(0, at), sep, text.substr(at + sep.size())}, self.text().markup, Kind::tuple);
}

Datum join(const Datum& self, const Call& call) {
  const Bound args(call, "join", {"iterable"}, 1);
  if (args[0].is_none() || args[0].is_real()) type_error("can only join an iterable");
  const std::vector<Datum> items = iterate(args[0]);
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is_string())
      type_error("sequence item " + std::to_string(i) + ": expected str instance, " + type_name(items[i]) + " found");
    spend_bytes(static_cast<int64_t>(self.str().size() + items[i].str().size()));
    if (i > 0) out += self.str();
    out += items[i].str();
  }
  return Datum::string(std::move(out));
}

Datum replace(const Datum& self, const Call& call) {
  const Bound args(call, "replace", {"old", "new", "count"}, 2);
  const std::string_view from = want_text(args[0], "replace() argument 1"),
                         to = want_text(args[1], "replace() argument 2");
  const int64_t given = args.integer(2, -1);
  const auto most = static_cast<int64_t>(from.empty() ? self.str().size() + 1 : self.str().size() / from.size());
  spend_product(given < 0 ? most : std::min(given, most), static_cast<int64_t>(to.size()));
  return Datum::string(jinja::replace(self.str(), from, to, given), self.text().markup);
}

/// str.center, ljust, rjust (by the share of the padding on the left) and zfill.
Datum padded(const Datum& self, const Call& call, std::string_view name) {
  const Bound args(call, "padding", {"width", "fillchar"}, 1);
  const int64_t size = length_of(self), width = want_int(args[0]), missing = std::max<int64_t>(width - size, 0);
  const std::string fill = args.has(1) ? std::string(want_text(args[1], "fillchar")) : name == "zfill" ? "0" : " ";
  if (count_chars(fill) != 1) type_error("The fill character must be exactly one character long");
  spend_product(missing, static_cast<int64_t>(fill.size()));
  const int64_t left = name == "ljust" ? 0 : name == "center" ? missing / 2 + (missing & width & 1) : missing;
  std::string out;
  std::string_view text = self.str();
  if (name == "zfill" && (text.starts_with('-') || text.starts_with('+'))) {
    out += text[0];
    text.remove_prefix(1);
  }
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return Datum::string(std::move(out));
}

Datum affix_removed(const Datum& self, const Call& call, bool prefix) {
  const Bound args(call, "removeprefix", {"affix"}, 1);
  const std::string_view affix = want_text(args[0], "argument"), text = self.str();
  const bool fits = prefix ? text.starts_with(affix) : text.ends_with(affix);
  if (!fits) return self;
  return Datum::string(std::string(prefix ? text.substr(affix.size()) : text.substr(0, text.size() - affix.size())),
                       self.text().markup);
}

[[noreturn]] void lacking(const Datum& object, const std::string& name) {
  raise("NotImplementedError",
        "method " + repr(name) + " of " + type_name(object) + " is not supported in chat templates by this engine");
}

Datum text_question(const Datum& self, const std::string& name) {
  const std::string& text = self.str();
  if (name == "isascii")
    return Datum::boolean(
        std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
  if (name == "isdigit" || name == "isdecimal" || name == "isnumeric" || name == "isalpha" || name == "isalnum" ||
      name == "isspace" || name == "isupper" || name == "islower")
    return Datum::boolean(is_all(text, name == "isdigit" ? "digit" : std::string_view(name).substr(2)));
  lacking(self, name);
}

Datum text_method(Evaluator& evaluator, const Datum& self, const std::string& name, const Call& call) {
  const auto changed = [&](std::string (*change)(std::string_view)) {
    const Bound args(call, name.c_str(), {});
    return Datum::string(change(self.str()), self.text().markup);
  };
  if (name == "split") return split(self, call, false);
  if (name == "strip") return stripped(self, call, Strip::both);
  if (name == "lstrip") return stripped(self, call, Strip::left);
  if (name == "rstrip") return stripped(self, call, Strip::right);
  if (name == "startswith") return starts_or_ends(self, call, true);
  if (name == "endswith") return starts_or_ends(self, call, false);
  if (name == "replace") return replace(self, call);
  if (name == "upper") return changed(upper);
  if (name == "lower" || name == "casefold") {
    if (name == "casefold" && count_chars(self.str()) != static_cast<int64_t>(self.str().size())) lacking(self, name);
    return changed(lower);
  }
  if (name == "title") return changed(title);
  if (name == "capitalize") return changed(capitalize);
  if (name == "swapcase") return changed(swapcase);
  if (name == "join") return join(self, call);
  if (name == "find" || name == "index") return find(self, call, false, name == "index");
  if (name == "rfind" || name == "rindex") return find(self, call, true, name == "rindex");
  if (name == "count") return count(self, call);
  if (name == "rsplit") return split(self, call, true);
  if (name == "partition" || name == "rpartition") return partition(self, call, name == "rpartition");
  if (name == "center" || name == "ljust" || name == "rjust" || name == "zfill") return padded(self, call, name);
  if (name == "removeprefix" || name == "removesuffix") return affix_removed(self, call, name == "removeprefix");
  if (name == "format") return Datum::string(brace_format(evaluator, self.str(), call), self.text().markup);
  if (name == "splitlines") {
    const Bound args(call, "splitlines", {"keepends"});
    return text_list(split_lines(self.str(), args.flag(0)), self.text().markup);
  }
  if (name.starts_with("is")) return text_question(self, name);
  lacking(self, name);
}

Datum dict_method(const Datum& self, const std::string& name, const Call& call) {
  const DictObject& dict = self.entries();
  if (name == "get") {
    if (!call.named.empty()) type_error("dict.get() takes no keyword arguments");
    const Bound args(call, "get", {"key", "default"}, 1);
    check_hashable(args[0]);
    const Datum* found = dict.find(args[0]);
    return found ? *found : args.get(1, Datum::none());
  }
  const Bound args(call, name.c_str(), {});
  if (name == "copy") return Datum::dict(dict.items);
  std::vector<Datum> items;
  for (const auto& [key, value] : dict.items)
    items.push_back(name == "items" ? Datum::list({key, value}, Kind::tuple) : name == "keys" ? key : value);
  if (name == "items") return Datum::sequence(Kind::view, std::move(items), "dict_items");
  if (name == "keys") return Datum::sequence(Kind::view, std::move(items), "dict_keys");
  if (name == "values") return Datum::sequence(Kind::view, std::move(items), "dict_values");
  lacking(self, name);
}

Datum list_method(const Datum& self, const std::string& name, const Call& call) {
  const std::vector<Datum> items = iterate(self);
  if (name == "copy") return Datum::list(items);
  if (name == "count" || name == "index") {
    const Bound args(call, name.c_str(), {"value"}, 1);
    int64_t count = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      if (!equal(items[i], args[0])) continue;
      if (name == "index") return Datum::integer(static_cast<int64_t>(i));
      ++count;
    }
    if (name == "index") raise("ValueError", to_repr(args[0]) + " is not in list");
    return Datum::integer(count);
  }
  lacking(self, name);
}

Datum loop_method(const Datum& self, const std::string& name, const Call& call) {
  LoopObject& loop = self.loop();
  if (name == "cycle") {
    if (call.args.empty()) type_error("no items for cycling given");
    return call.args[static_cast<size_t>(loop.index0) % call.args.size()];
  }
  const Datum now = Datum::list(call.args, Kind::tuple);
  const bool changed = loop.changed.empty() || !equal(loop.changed[0], now);
  loop.changed.assign(1, now);
  return Datum::boolean(changed);
}

}  // namespace

bool has_method(const Datum& object, std::string_view name) { return methods_of(object).contains(name); }

bool is_unsafe(const Datum& object, std::string_view name) {
  static const Names kList{"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
  static const Names kDict{"clear", "pop", "popitem", "setdefault", "update"};
  return (object.is(Kind::list) && kList.contains(name)) || (object.is(Kind::dict) && kDict.contains(name));
}

Datum call_method(Evaluator& evaluator, const Datum& object, const std::string& name, const Call& call) {
  spend_steps(1);
  switch (object.kind()) {
    case Kind::string:
      return text_method(evaluator, object, name, call);
    case Kind::dict:
      return dict_method(object, name, call);
    case Kind::list:
    case Kind::tuple:
    case Kind::range:
      return list_method(object, name, call);
    case Kind::loop:
      return loop_method(object, name, call);
    default:
      lacking(object, name);
  }
}

}  // namespace ft::jinja
