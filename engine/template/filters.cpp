// Filters on single values, and the look-up of all filters (jinja2/filters.py).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "engine/template/evaluator.h"
#include "engine/template/python_text.h"

namespace ft::jinja {

int64_t want_int(const Datum& value) {
  if (value.is_undefined()) use_undefined(value);
  if (!value.is_int()) type_error("'" + type_name(value) + "' object cannot be interpreted as an integer");
  return value.as_int();
}

Bound::Bound(const Call& call, const char* function, std::initializer_list<const char*> names, size_t least)
    : values_(names.size()), given_(names.size()) {
  const std::string shown = std::string(function) + "()";
  if (call.args.size() > names.size())
    type_error(shown + " takes at most " + std::to_string(names.size()) + " arguments (" +
               std::to_string(call.args.size()) + " given)");
  for (size_t i = 0; i < call.args.size(); ++i) {
    values_[i] = call.args[i];
    given_[i] = true;
  }
  for (const auto& [name, value] : call.named) {
    const auto found =
        std::find_if(names.begin(), names.end(), [&name = name](const char* known) { return name == known; });
    if (found == names.end()) type_error(shown + " got an unexpected keyword argument " + repr(name));
    const auto i = static_cast<size_t>(found - names.begin());
    if (given_[i]) type_error(shown + " got multiple values for argument " + repr(name));
    values_[i] = value;
    given_[i] = true;
  }
  for (size_t i = 0; i < least; ++i)
    if (!given_[i]) type_error(shown + " missing 1 required positional argument: " + repr(names.begin()[i]));
}

int64_t Bound::integer(size_t i, int64_t otherwise) const { return given_[i] ? want_int(values_[i]) : otherwise; }

namespace {

bool markup(const Datum& value) { return value.is_string() && value.text().markup; }
Datum soft(const Datum& value, std::string made) { return Datum::string(std::move(made), markup(value)); }

std::optional<double> parse_float(std::string_view text) {
  std::string plain(strip(text, Strip::both));
  std::erase(plain, '_');
  std::string_view rest = plain;
  if (rest.starts_with('+')) rest.remove_prefix(1);
  const std::string low = lower(rest);
  const std::string_view unsigned_part = std::string_view(low).substr(low.starts_with('-'));
  if (unsigned_part == "inf" || unsigned_part == "infinity") return low[0] == '-' ? -INFINITY : INFINITY;
  if (unsigned_part == "nan") return NAN;
  double value = 0;
  const auto read = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (read.ec != std::errc() || read.ptr != rest.data() + rest.size() || rest.empty()) return std::nullopt;
  return value;
}

std::optional<int64_t> parse_int(std::string_view text, int64_t base) {
  std::string plain(strip(text, Strip::both));
  std::erase(plain, '_');
  std::string_view rest = plain;
  const bool minus = rest.starts_with('-');
  if (minus || rest.starts_with('+')) rest.remove_prefix(1);
  if (base < 2 || base > 36) raise("ValueError", "int() base must be >= 2 and <= 36, or 0");
  if (base == 16 && (rest.starts_with("0x") || rest.starts_with("0X"))) rest.remove_prefix(2);
  if (base == 8 && (rest.starts_with("0o") || rest.starts_with("0O"))) rest.remove_prefix(2);
  if (base == 2 && (rest.starts_with("0b") || rest.starts_with("0B"))) rest.remove_prefix(2);
  if (rest.empty() || rest.starts_with('-')) return std::nullopt;
  int64_t value = 0;
  const auto read = std::from_chars(rest.data(), rest.data() + rest.size(), value, static_cast<int>(base));
  if (read.ec == std::errc::result_out_of_range)
    raise("OverflowError", "integer of more than 64 bits, which this engine lacks");
  if (read.ec != std::errc() || read.ptr != rest.data() + rest.size()) return std::nullopt;
  return minus ? -value : value;
}

std::optional<int64_t> truncated(double value) {
  constexpr double kLimit = 9.2e18;
  if (std::isnan(value) || std::isinf(value)) return std::nullopt;
  if (std::abs(value) >= kLimit) raise("OverflowError", "integer of more than 64 bits, which this engine lacks");
  return static_cast<int64_t>(value);
}

Datum to_int(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_int", {"default", "base"});
  if (value.is_undefined()) use_undefined(value);
  const Datum otherwise = args.get(0, Datum::integer(0));
  std::optional<int64_t> out;
  if (value.is_int()) {
    out = value.as_int();
  } else if (value.is(Kind::number)) {
    if (std::isinf(value.as_double())) raise("OverflowError", "cannot convert float infinity to integer");
    out = truncated(value.as_double());
  } else if (value.is_string()) {
    out = parse_int(value.str(), args.integer(1, 10));
    if (!out)
      if (const auto real = parse_float(value.str())) out = truncated(*real);
  }
  return out ? Datum::integer(*out) : otherwise;
}

Datum to_float(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_float", {"default"});
  if (value.is_undefined()) use_undefined(value);
  if (value.is_real()) return Datum::number(value.as_double());
  if (value.is_string())
    if (const auto real = parse_float(value.str())) return Datum::number(*real);
  return args.get(0, Datum::number(0));
}

Datum trim(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_trim", {"chars"});
  const std::string text = to_str(value);
  if (!args.has(0) || args[0].is_none()) return soft(value, std::string(strip(text, Strip::both)));
  if (!args[0].is_string()) type_error("strip arg must be None or str");
  const std::string_view chars = args[0].str();
  return soft(value, std::string(strip(text, Strip::both, &chars)));
}

template <std::string (*change)(std::string_view)>
Datum changed(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "filter", {});
  return soft(value, change(to_str(value)));
}

/// jinja2's own title: words begin behind "-", white space and opening brackets.
std::string jinja_title(std::string_view text) {
  std::string out;
  size_t begin = 0;
  const auto word = [&](size_t end) {
    if (end == begin) return;
    const std::string_view part = text.substr(begin, end - begin);
    const size_t first = char_starts(part.substr(0, std::min<size_t>(part.size(), 4)))[1];
    out += upper(part.substr(0, first)) + lower(part.substr(first));
  };
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    size_t next = at + 1;
    while (next < text.size() && (text[next] & 0xC0) == 0x80) ++next;
    const bool separator = std::string_view("-({[<").find(text[at]) != std::string_view::npos ||
                           strip(text.substr(at, next - at), Strip::both).empty();
    at = next;
    if (!separator) continue;
    word(here);
    out += text.substr(here, next - here);
    begin = next;
  }
  word(text.size());
  return out;
}

Datum default_value(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_default", {"default_value", "boolean"});
  if (value.is_undefined() || (args.flag(1) && !truth(value))) return args.get(0, Datum::string(""));
  return value;
}

Datum replaced(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_replace", {"old", "new", "count"}, 2);
  const int64_t count = args.has(2) && !args[2].is_none() ? want_int(args[2]) : -1;
  const std::string text = to_str(value), from = to_str(args[0]), to = to_str(args[1]);
  const auto most = static_cast<int64_t>(from.empty() ? text.size() + 1 : text.size() / from.size());
  spend_product(count < 0 ? most : std::min(count, most), static_cast<int64_t>(to.size()));
  return Datum::string(replace(text, from, to, count));
}

Datum indent(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_indent", {"width", "first", "blank"});
  if (value.is_undefined()) use_undefined(value);
  if (value.is(Kind::list)) raise("AttributeError", "'list' object has no attribute 'splitlines'");
  if (!value.is_string()) type_error("unsupported operand type(s) for +=: '" + type_name(value) + "' and 'str'");
  const Datum width = args.get(0, Datum::integer(4));
  if (!width.is_string()) spend_product(1, std::max<int64_t>(want_int(width), 0));
  const std::string in =
      width.is_string() ? width.str() : std::string(static_cast<size_t>(std::max<int64_t>(want_int(width), 0)), ' ');
  const std::string text = value.str() + "\n";
  const std::vector<std::string_view> lines = split_lines(text, false);
  spend_product(static_cast<int64_t>(lines.size()), static_cast<int64_t>(in.size()) + 1);
  std::string out(lines[0]);
  for (size_t i = 1; i < lines.size(); ++i) {
    out += '\n';
    if (args.flag(2) || !lines[i].empty()) out += in;
    out += lines[i];
  }
  return soft(value, args.flag(1) ? in + out : out);
}

Datum absolute(Evaluator&, const Datum& value, const Call&) {
  if (value.is_int()) return value.as_int() < 0 ? negative(value, false) : Datum::integer(value.as_int());
  if (value.is(Kind::number)) return Datum::number(std::abs(value.as_double()));
  type_error("bad operand type for abs(): '" + type_name(value) + "'");
}

Datum rounded(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_round", {"precision", "method"});
  const int64_t digits = args.integer(0, 0);
  const std::string method = args.has(1) ? to_str(args[1]) : "common";
  if (value.is_undefined() && (method == "ceil" || method == "floor")) use_undefined(value);
  if (method != "common" && method != "ceil" && method != "floor")
    raise("FilterArgumentError", "method must be common, ceil or floor");
  if (!value.is_real()) type_error("type " + type_name(value) + " doesn't define __round__ method");
  if (method == "common") {
    if (value.is_int() && digits >= 0) return Datum::integer(value.as_int());
    constexpr int64_t kMostDigits = 300;
    if (digits > kMostDigits) return value;
    // Python rounds the decimal text correctly, and so does printf
    char text[700];
    if (digits >= 0) {
      std::snprintf(text, sizeof text, "%.*f", static_cast<int>(digits), value.as_double());
      return Datum::number(std::strtod(text, nullptr));
    }
    const double unit = std::pow(10.0, static_cast<double>(-digits));
    const double out = std::nearbyint(value.as_double() / unit) * unit;
    return value.is_int() ? Datum::integer(static_cast<int64_t>(out)) : Datum::number(out);
  }
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = value.as_double() * scale;
  return Datum::number((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Datum to_text(Evaluator&, const Datum& value, const Call&) {
  return value.is_string() ? value : Datum::string(to_str(value));
}

Datum safe(Evaluator&, const Datum& value, const Call&) { return Datum::string(to_str(value), true); }

Datum escaped(Evaluator&, const Datum& value, const Call&) {
  return markup(value) ? value : Datum::string(escape_html(to_str(value)), true);
}
Datum force_escaped(Evaluator&, const Datum& value, const Call&) {
  return Datum::string(escape_html(to_str(value)), true);
}

Datum tojson(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonText how;
  how.ensure_ascii = args.flag(0);
  how.sort_keys = args.flag(3);
  if (args.has(1) && !args[1].is_none()) {
    if (!args[1].is_string()) spend_product(1, std::max<int64_t>(want_int(args[1]), 0));
    how.indent = args[1].is_string() ? args[1].str()
                                     : std::string(static_cast<size_t>(std::max<int64_t>(want_int(args[1]), 0)), ' ');
    how.item_separator = ",";
  }
  if (args.has(2) && !args[2].is_none()) {
    const std::vector<Datum> both = iterate(args[2]);
    if (both.size() != 2) raise("ValueError", "separators must be a pair");
    if (!both[0].is_string() || !both[1].is_string()) type_error("separators must be strings");
    how.item_separator = both[0].str();
    how.key_separator = both[1].str();
  }
  return Datum::string(to_json(value, how));
}

Datum truncate(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_truncate", {"length", "killwords", "end", "leeway"});
  const int64_t length = args.integer(0, 255), leeway = args.has(3) && !args[3].is_none() ? want_int(args[3]) : 5;
  const Datum end = args.get(2, Datum::string("..."));
  if (!end.is_string()) type_error("object of type '" + type_name(end) + "' has no len()");
  const int64_t end_size = length_of(end);
  if (length < end_size)
    raise("AssertionError", "expected length >= " + std::to_string(end_size) + ", got " + std::to_string(length));
  if (leeway < 0) raise("AssertionError", "expected leeway >= 0, got " + std::to_string(leeway));
  if (length_of(value) <= length + leeway) return value;
  const Datum head = slice(value, Datum::none(), Datum::integer(length - end_size), Datum::none());
  if (!head.is_string() && !args.flag(1))
    raise("AttributeError", "'" + type_name(value) + "' object has no attribute 'rsplit'");
  if (!head.is_string()) type_error("can only concatenate " + type_name(value) + " to " + type_name(value));
  if (args.flag(1)) return Datum::string(head.str() + end.str());
  return Datum::string(std::string(rsplit_at(head.str(), " ", 1).front()) + end.str());
}

Datum format(Evaluator&, const Datum& value, const Call& call) {
  if (!call.args.empty() && !call.named.empty())
    raise("FilterArgumentError", "can't handle positional and keyword arguments at the same time");
  if (call.named.empty()) return soft(value, percent_format(to_str(value), Datum::list(call.args, Kind::tuple)));
  std::vector<std::pair<Datum, Datum>> named;
  for (const auto& [name, item] : call.named) named.emplace_back(Datum::string(name), item);
  return soft(value, percent_format(to_str(value), Datum::dict(std::move(named))));
}

Datum center(Evaluator& evaluator, const Datum& value, const Call& call) {
  const Bound args(call, "do_center", {"width"});
  return call_method(evaluator, Datum::string(to_str(value)), "center", {{args.get(0, Datum::integer(80))}, {}});
}

Datum attr(Evaluator& evaluator, const Datum& value, const Call& call) {
  const Bound args(call, "do_attr", {"name"}, 1);
  const std::string name = to_str(args[0]);
  if (value.is_undefined()) use_undefined(value);
  const bool exists = has_method(value, name) || name.starts_with("__") || value.is(Kind::loop) ||
                      (value.is(Kind::name_space) && value.entries().find(name));
  if (!exists) return Datum::undefined(repr(object_name(value)) + " has no attribute " + repr(name));
  return evaluator.attribute(value, name);
}

Datum word_count(Evaluator&, const Datum& value, const Call&) {
  int64_t count = 0;
  bool inside = false;
  const std::string text = to_str(value);
  const std::vector<size_t> starts = char_starts(text);
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    const std::string_view c = std::string_view(text).substr(starts[i], starts[i + 1] - starts[i]);
    const bool word = c == "_" || is_all(c, "alnum");
    count += word && !inside;
    inside = word;
  }
  return Datum::integer(count);
}

Datum lacking(Evaluator&, const Datum&, const Call&) {
  raise("NotImplementedError", "this filter of jinja2's is not supported in chat templates by this engine");
}

const std::map<std::string_view, Filter>& value_filters() {
  static const std::map<std::string_view, Filter> filters{{"abs", absolute},
                                                          {"attr", attr},
                                                          {"capitalize", changed<capitalize>},
                                                          {"center", center},
                                                          {"d", default_value},
                                                          {"default", default_value},
                                                          {"e", escaped},
                                                          {"escape", escaped},
                                                          {"float", to_float},
                                                          {"forceescape", force_escaped},
                                                          {"format", format},
                                                          {"indent", indent},
                                                          {"int", to_int},
                                                          {"lower", changed<lower>},
                                                          {"replace", replaced},
                                                          {"round", rounded},
                                                          {"safe", safe},
                                                          {"string", to_text},
                                                          {"title", changed<jinja_title>},
                                                          {"tojson", tojson},
                                                          {"trim", trim},
                                                          {"truncate", truncate},
                                                          {"upper", changed<upper>},
                                                          {"wordcount", word_count},
                                                          {"filesizeformat", lacking},
                                                          {"pprint", lacking},
                                                          {"random", lacking},
                                                          {"striptags", lacking},
                                                          {"urlencode", lacking},
                                                          {"urlize", lacking},
                                                          {"wordwrap", lacking},
                                                          {"xmlattr", lacking}};
  return filters;
}

}  // namespace

Filter find_filter(std::string_view name) {
  const auto found = value_filters().find(name);
  return found != value_filters().end() ? found->second : find_list_filter(name);
}

bool is_filter(std::string_view name) { return find_filter(name) != nullptr; }

}  // namespace ft::jinja
