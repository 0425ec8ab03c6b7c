// Python's "…" % arguments and "…".format(…), for texts, integers and numbers.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/template/evaluator.h"
#include "engine/template/python_text.h"

namespace ft::jinja {
namespace {

constexpr int64_t kWidest = 1'000'000;  // of a field; Python has no bound

struct Field {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^' or '='
  bool plus = false, space = false, alternative = false, grouped = false;
  int64_t width = 0;
  std::optional<int64_t> precision;
  char type = 0;
};

std::string grouped(std::string digits, bool yes) {
  if (!yes) return digits;
  const size_t whole = std::min(digits.find_first_of(".e"), digits.size());
  for (size_t i = whole; i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string filled(const Field& field, const std::string& sign, const std::string& body, char natural) {
  const int64_t missing = std::max<int64_t>(0, field.width - count_chars(sign) - count_chars(body));
  spend_product(missing, static_cast<int64_t>(field.fill.size()));
  std::string padding;
  for (int64_t i = 0; i < missing; ++i) padding += field.fill;
  const char align = field.align ? field.align : natural;
  if (align == '=') return sign + padding + body;
  if (align == '<') return sign + body + padding;
  if (align == '>') return padding + sign + body;
  const size_t left = static_cast<size_t>(missing / 2) * field.fill.size();
  return padding.substr(0, left) + sign + body + padding.substr(left);
}

std::string sign_of(const Field& field, bool minus) { return minus ? "-" : field.plus ? "+" : field.space ? " " : ""; }

std::string integer_field(const Field& field, int64_t value) {
  const bool minus = value < 0;
  uint64_t rest = minus ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  const unsigned base = field.type == 'x' || field.type == 'X' ? 16
                        : field.type == 'o'                    ? 8
                        : field.type == 'b'                    ? 2
                                                               : 10;
  std::string digits;
  do {
    const auto digit = static_cast<char>(rest % base);
    digits += static_cast<char>(digit < 10 ? '0' + digit : (field.type == 'X' ? 'A' : 'a') + digit - 10);
    rest /= base;
  } while (rest > 0);
  std::reverse(digits.begin(), digits.end());
  if (field.precision && static_cast<int64_t>(digits.size()) < *field.precision)
    digits.insert(0, static_cast<size_t>(*field.precision) - digits.size(), '0');
  std::string sign = sign_of(field, minus);
  if (field.alternative && base != 10) sign += std::string("0") + field.type;
  return filled(field, sign, grouped(std::move(digits), field.grouped), '>');
}

std::string number_field(const Field& field, double value) {
  const std::string sign = sign_of(field, std::signbit(value) && !std::isnan(value));
  const double size = std::abs(value);
  constexpr int64_t kMostDigits = 400;
  const auto digits = static_cast<int>(std::min(field.precision.value_or(6), kMostDigits));
  std::string body;
  if (std::isnan(value) || std::isinf(value)) {
    body = std::isnan(value) ? "nan" : "inf";
  } else if (field.type == 0 && !field.precision) {
    body = repr(size);
  } else {
    const char type = field.type == 0 ? 'g' : field.type == '%' ? 'f' : field.type;
    const char form[] = {'%',
                         field.alternative ? '#' : '.',
                         field.alternative ? '.' : '*',
                         field.alternative ? '*' : type,
                         field.alternative ? type : '\0',
                         '\0'};
    char text[1000];
    std::snprintf(text, sizeof text, form, digits, field.type == '%' ? size * 100 : size);
    body = text;
    if (field.type == 0 && body.find_first_of(".e") == std::string::npos) body += ".0";
    if (field.type == '%') body += '%';
  }
  return filled(field, sign, grouped(std::move(body), field.grouped), '>');
}

std::string text_field(const Field& field, std::string text) {
  if (field.precision) {
    const std::vector<size_t> starts = char_starts(text);
    const auto most = static_cast<size_t>(*field.precision);
    if (most + 1 < starts.size()) text.resize(starts[most]);
  }
  return filled(field, "", text, '<');
}

int64_t read_digits(std::string_view text, size_t& at, int64_t otherwise) {
  if (at >= text.size() || text[at] < '0' || text[at] > '9') return otherwise;
  int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    value = value * 10 + (text[at] - '0');
    if (value > kWidest) raise("ValueError", "a field wider than " + std::to_string(kWidest));
  }
  return value;
}

/// One argument as %-formatting writes it.
std::string percent_field(const Field& field, const Datum& value) {
  switch (field.type) {
    case 's':
      return text_field(field, to_str(value));
    case 'r':
    case 'a':
      return text_field(field, to_repr(value));
    case 'c':
      if (value.is_string() && length_of(value) == 1) return text_field(field, value.str());
      type_error("%c requires int or char");
    case 'd':
    case 'i':
    case 'u':
      if (value.is(Kind::number)) {
        if (!std::isfinite(value.as_double()) || std::abs(value.as_double()) > 9e18)
          raise("OverflowError", "cannot convert this float to integer");
        return integer_field(field, static_cast<int64_t>(value.as_double()));
      }
      if (!value.is_int())
        type_error(std::string("%") + field.type + " format: a real number is required, not " + type_name(value));
      return integer_field(field, value.as_int());
    case 'x':
    case 'X':
    case 'o':
      if (!value.is_int())
        type_error(std::string("%") + field.type + " format: an integer is required, not " + type_name(value));
      return integer_field(field, value.as_int());
    default:
      if (!value.is_real()) type_error("must be real number, not " + type_name(value));
      return number_field(field, value.as_double());
  }
}

}  // namespace

namespace {

/// The arguments of "…" % x: a tuple's items in turn, or x itself; a dict's entries by name.
class PercentArguments {
 public:
  explicit PercentArguments(const Datum& given) : given_(given), tuple_(given.is(Kind::tuple)) {}

  Datum next() {
    if (tuple_ ? next_ >= given_.items().items.size() : next_ > 0) type_error("not enough arguments for format string");
    return tuple_ ? given_.items().items[next_++] : (++next_, given_);
  }

  Datum named(std::string_view key) {
    if (given_.is_undefined()) use_undefined(given_);
    if (!given_.is(Kind::dict)) type_error("format requires a mapping");
    const Datum* found = given_.entries().find(key);
    if (!found) raise("KeyError", repr(key));
    return *found;
  }

  void check_all_used() const {
    const bool has_items = given_.is(Kind::dict) || given_.is(Kind::list) || given_.is(Kind::view) ||
                           given_.is(Kind::range) || given_.is_undefined() || type_name(given_) == "TemplateReference";
    const bool used = tuple_ ? next_ >= given_.items().items.size() : next_ > 0 || has_items;
    if (!used) type_error("not all arguments converted during string formatting");
  }

 private:
  const Datum& given_;
  bool tuple_;
  size_t next_ = 0;
};

/// Reads what stands between % and the type, and the type.
Field read_percent(std::string_view format, size_t& at) {
  Field field;
  for (; at < format.size() && std::string_view("-+ #0").find(format[at]) != std::string_view::npos; ++at) {
    const char flag = format[at];
    if (flag == '-') field.align = '<';
    if (flag == '+') field.plus = true;
    if (flag == ' ') field.space = true;
    if (flag == '#') field.alternative = true;
    if (flag == '0') field.fill = "0";
  }
  field.width = read_digits(format, at, 0);
  if (at < format.size() && format[at] == '.') {
    ++at;
    field.precision = read_digits(format, at, 0);
  }
  if (at >= format.size()) raise("ValueError", "incomplete format");
  field.type = format[at++];
  if (std::string_view("srcadiuxXofFeEgG%").find(field.type) == std::string_view::npos)
    raise("ValueError", "unsupported format character " + repr(std::string_view(&field.type, 1)) + " at index " +
                            std::to_string(at - 1));
  const bool text = field.type == 's' || field.type == 'r' || field.type == 'a' || field.type == 'c';
  if (field.align == '<' || text) field.fill = " ";
  if (!field.align) field.align = field.fill == "0" ? '=' : '>';
  return field;
}

}  // namespace

std::string percent_format(std::string_view format, const Datum& given) {
  PercentArguments arguments(given);
  std::string out;
  for (size_t at = 0; at < format.size();) {
    const size_t percent = std::min(format.find('%', at), format.size());
    out += format.substr(at, percent - at);
    if ((at = percent) >= format.size()) break;
    if (++at >= format.size()) raise("ValueError", "incomplete format");
    std::optional<Datum> named;
    if (format[at] == '(') {
      const size_t close = format.find(')', at);
      if (close == format.npos) raise("ValueError", "incomplete format key");
      named = arguments.named(format.substr(at + 1, close - at - 1));
      at = close + 1;
    }
    const Field field = read_percent(format, at);
    if (field.type == '%')
      out += '%';
    else
      out += percent_field(field, named ? *named : arguments.next());
  }
  arguments.check_all_used();
  return out;
}

namespace {

Field read_spec(std::string_view spec) {
  Field field;
  const std::vector<size_t> starts = char_starts(spec);
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < spec.size() && std::string_view("<>^=").find(spec[i]) != std::string_view::npos;
  };
  if (starts.size() > 2 && is_align(starts[1])) {
    field.fill = spec.substr(0, starts[1]);
    field.align = spec[starts[1]];
    at = starts[1] + 1;
  } else if (is_align(0)) {
    field.align = spec[0];
    at = 1;
  }
  if (at < spec.size() && (spec[at] == '+' || spec[at] == '-' || spec[at] == ' ')) {
    field.plus = spec[at] == '+';
    field.space = spec[at] == ' ';
    ++at;
  }
  if (at < spec.size() && spec[at] == '#') field.alternative = ++at > 0;
  if (at < spec.size() && spec[at] == '0') {
    if (!field.align) field.align = '=', field.fill = "0";
    ++at;
  }
  field.width = read_digits(spec, at, 0);
  if (at < spec.size() && spec[at] == ',') field.grouped = ++at > 0;
  if (at < spec.size() && spec[at] == '.') {
    ++at;
    const size_t before = at;
    field.precision = read_digits(spec, at, 0);
    if (at == before) raise("ValueError", "Format specifier missing precision");
  }
  if (at < spec.size()) field.type = spec[at++];
  if (at != spec.size()) raise("ValueError", "Invalid format specifier");
  return field;
}

std::string brace_field(const Datum& value, std::string_view spec) {
  if (spec.empty()) return to_str(value);
  const Field field = read_spec(spec);
  const auto unknown = [&] {
    raise("ValueError", "Unknown format code " + repr(std::string_view(&field.type, 1)) + " for object of type " +
                            repr(type_name(value)));
  };
  if (value.is_string()) {
    if (field.type && field.type != 's') unknown();
    return text_field(field, value.str());
  }
  const std::string_view type(&field.type, field.type ? 1 : 0);
  if (value.is_int() && (type.empty() || std::string_view("dxXobn").find(type) != std::string_view::npos)) {
    if (value.is(Kind::boolean) && type.empty()) return text_field(field, to_str(value));
    if (field.precision) raise("ValueError", "Precision not allowed in integer format specifier");
    return integer_field(field, value.as_int());
  }
  if (value.is_real()) {
    if (!type.empty() && std::string_view("eEfFgG%").find(type) == std::string_view::npos) unknown();
    return number_field(field, value.as_double());
  }
  type_error("unsupported format string passed to " + type_name(value) + ".__format__");
}

/// What a field of str.format names: "", "0", "name", then ".attribute" and "[item]".
Datum brace_value(Evaluator& evaluator, std::string_view name, const Call& call, int64_t& next) {
  const size_t head_size = std::min(name.find_first_of(".["), name.size());
  const std::string head(name.substr(0, head_size));
  const auto is_number = [](std::string_view text) { return text.find_first_not_of("0123456789") == text.npos; };
  size_t digits = 0;
  Datum value;
  if (is_number(head)) {
    constexpr int64_t kManual = -1;
    if (head.empty() ? next == kManual : next > 0)
      raise("ValueError", head.empty() ? "cannot switch from manual field specification to automatic field numbering"
                                       : "cannot switch from automatic field numbering to manual field specification");
    const int64_t place = head.empty() ? next++ : read_digits(head, digits, 0);
    if (!head.empty()) next = kManual;
    if (place >= static_cast<int64_t>(call.args.size()))
      raise("IndexError", "Replacement index " + std::to_string(place) + " out of range for positional args tuple");
    value = call.args[static_cast<size_t>(place)];
  } else {
    const auto found =
        std::find_if(call.named.begin(), call.named.end(), [&](const auto& item) { return item.first == head; });
    if (found == call.named.end()) raise("KeyError", repr(head));
    value = found->second;
  }
  for (std::string_view rest = name.substr(head_size); !rest.empty();) {
    const bool item = rest[0] == '[';
    const size_t end = item ? rest.find(']') : std::min(rest.find_first_of(".[", 1), rest.size());
    if (end == rest.npos) raise("ValueError", "Missing ']' in format string");
    const std::string part(rest.substr(1, end - 1));
    digits = 0;
    if (!item)
      value = evaluator.attribute(value, part);
    else
      value = evaluator.item(
          value, !part.empty() && is_number(part) ? Datum::integer(read_digits(part, digits, 0)) : Datum::string(part));
    rest.remove_prefix(end + item);
  }
  return value;
}

}  // namespace

std::string brace_format(Evaluator& evaluator, std::string_view format, const Call& call) {
  std::string out;
  int64_t next = 0;
  for (size_t at = 0; at < format.size(); ++at) {
    const char c = format[at];
    if (c != '{' && c != '}') {
      out += c;
      continue;
    }
    if (at + 1 < format.size() && format[at + 1] == c) {
      out += c;
      ++at;
      continue;
    }
    if (c == '}') raise("ValueError", "Single '}' encountered in format string");
    const size_t close = format.find('}', at);
    if (close == format.npos) raise("ValueError", "expected '}' before end of string");
    const std::string_view inside = format.substr(at + 1, close - at - 1);
    if (inside.find_first_of("{!") != inside.npos)
      raise("NotImplementedError",
            "str.format with '!' or nested fields is not supported in chat templates by this engine");
    const size_t colon = std::min(inside.find(':'), inside.size());
    const std::string field = brace_field(brace_value(evaluator, inside.substr(0, colon), call, next),
                                          inside.substr(std::min(colon + 1, inside.size())));
    spend_bytes(static_cast<int64_t>(field.size()));
    out += field;
    at = close;
  }
  return out;
}

}  // namespace ft::jinja
