// Python's operators on a template's values.
#include <algorithm>
#include <cmath>

#include "engine/template/evaluator.h"
#include "engine/template/python_text.h"

namespace ft::jinja {
namespace {

[[noreturn]] void unsupported(std::string_view op, const Datum& a, const Datum& b) {
  const std::string shown = op == "**" ? "** or pow()" : std::string(op);
  type_error("unsupported operand type(s) for " + shown + ": '" + type_name(a) + "' and '" + type_name(b) + "'");
}

[[noreturn]] void too_large() { raise("OverflowError", "integer of more than 64 bits, which this engine lacks"); }

Datum repeat(const Datum& value, int64_t times) {
  times = std::max<int64_t>(times, 0);
  if (value.is_string()) {
    spend_product(times, static_cast<int64_t>(value.str().size()));
    std::string made;
    for (int64_t i = 0; i < times && !value.str().empty(); ++i) made += value.str();
    return Datum::string(std::move(made), value.text().markup);
  }
  const auto& items = value.items().items;
  spend_product(times, static_cast<int64_t>(items.size() * sizeof(Datum)));
  std::vector<Datum> made;
  for (int64_t i = 0; i < times && !items.empty(); ++i) made.insert(made.end(), items.begin(), items.end());
  return Datum::list(std::move(made), value.kind());
}

Datum add(const Datum& a, const Datum& b) {
  if (a.is_string() && b.is_string()) {
    const bool markup = a.text().markup || b.text().markup;
    spend_bytes(static_cast<int64_t>(a.str().size() + b.str().size()));
    if (!markup) return Datum::string(a.str() + b.str());
    return Datum::string(
        (a.text().markup ? a.str() : escape_html(a.str())) + (b.text().markup ? b.str() : escape_html(b.str())), true);
  }
  if (a.kind() == b.kind() && (a.is(Kind::list) || a.is(Kind::tuple))) {
    std::vector<Datum> items = a.items().items;
    items.insert(items.end(), b.items().items.begin(), b.items().items.end());
    return Datum::list(std::move(items), a.kind());
  }
  if (a.is_string() && !a.text().markup) type_error("can only concatenate str (not \"" + type_name(b) + "\") to str");
  if (a.is(Kind::list) || a.is(Kind::tuple))
    type_error("can only concatenate " + type_name(a) + " (not \"" + type_name(b) + "\") to " + type_name(a));
  unsupported("+", a, b);
}

int64_t floor_divide(int64_t a, int64_t b) {
  if (b == -1) {
    int64_t out = 0;
    if (__builtin_sub_overflow(int64_t{0}, a, &out)) too_large();
    return out;
  }
  const int64_t quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0));
}

Datum power(int64_t a, int64_t b) {
  if (b < 0) {
    if (a == 0) raise("ZeroDivisionError", "0.0 cannot be raised to a negative power");
    return Datum::number(std::pow(static_cast<double>(a), static_cast<double>(b)));
  }
  int64_t result = 1;
  for (int64_t base = a; b > 0; b >>= 1) {
    if ((b & 1) && __builtin_mul_overflow(result, base, &result)) too_large();
    if (b > 1 && __builtin_mul_overflow(base, base, &base)) {
      if (a == 0 || a == 1 || a == -1) return Datum::integer(a);
      too_large();
    }
  }
  return Datum::integer(result);
}

Datum integers(std::string_view op, int64_t a, int64_t b) {
  int64_t out = 0;
  if (op == "+") {
    if (__builtin_add_overflow(a, b, &out)) too_large();
  } else if (op == "-") {
    if (__builtin_sub_overflow(a, b, &out)) too_large();
  } else if (op == "*") {
    if (__builtin_mul_overflow(a, b, &out)) too_large();
  } else if (op == "**") {
    return power(a, b);
  } else {
    if (b == 0)
      raise("ZeroDivisionError", op == "/"   ? "division by zero"
                                 : op == "%" ? "integer modulo by zero"
                                             : "integer division or modulo by zero");
    if (op == "/") return Datum::number(static_cast<double>(a) / static_cast<double>(b));
    out = op == "//" ? floor_divide(a, b) : b == -1 ? 0 : a - floor_divide(a, b) * b;
  }
  return Datum::integer(out);
}

Datum numbers(std::string_view op, double a, double b) {
  if (op == "+") return Datum::number(a + b);
  if (op == "-") return Datum::number(a - b);
  if (op == "*") return Datum::number(a * b);
  if (op == "**") {
    if (a == 0 && b < 0) raise("ZeroDivisionError", "0.0 cannot be raised to a negative power");
    const double out = std::pow(a, b);
    if (std::isinf(out) && std::isfinite(a) && std::isfinite(b))
      raise("OverflowError", "(34, 'Numerical result out of range')");
    return Datum::number(out);
  }
  if (b == 0)
    raise("ZeroDivisionError", op == "/"   ? "float division by zero"
                               : op == "%" ? "float modulo"
                                           : "float floor division by zero");
  if (op == "/") return Datum::number(a / b);
  double rest = std::fmod(a, b);
  if (op == "%") {
    if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
    return Datum::number(rest == 0 ? std::copysign(0.0, b) : rest);
  }
  double whole = (a - rest) / b;
  if (rest != 0 && (rest < 0) != (b < 0)) whole -= 1;
  return Datum::number(whole == 0 ? std::copysign(0.0, a / b) : std::floor(whole) + (whole - std::floor(whole) > 0.5));
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '\'')
      out += "&#39;";
    else if (c == '"')
      out += "&#34;";
    else
      out += c;
  }
  return out;
}

Datum arithmetic(std::string_view op, const Datum& a, const Datum& b) {
  if (a.is_undefined()) use_undefined(a);
  if (op == "%" && a.is_string()) return Datum::string(percent_format(a.str(), b), a.text().markup);
  if (b.is_undefined()) use_undefined(b);
  if (a.is_int() && b.is_int()) return integers(op, a.as_int(), b.as_int());
  if (a.is_real() && b.is_real()) return numbers(op, a.as_double(), b.as_double());
  if (op == "+") return add(a, b);
  const auto repeatable = [](const Datum& x) { return x.is_string() || x.is(Kind::list) || x.is(Kind::tuple); };
  if (op == "*") {
    if (repeatable(a) && b.is_int()) return repeat(a, b.as_int());
    if (repeatable(b) && a.is_int()) return repeat(b, a.as_int());
    if (repeatable(a) || repeatable(b))
      type_error("can't multiply sequence by non-int of type '" + type_name(repeatable(a) ? b : a) + "'");
  }
  unsupported(op, a, b);
}

Datum negative(const Datum& value, bool keep_sign) {
  if (value.is_undefined()) use_undefined(value);
  if (value.is_int()) return integers(keep_sign ? "+" : "-", 0, value.as_int());
  if (value.is(Kind::number)) return Datum::number(keep_sign ? value.as_double() : -value.as_double());
  type_error(std::string("bad operand type for unary ") + (keep_sign ? "+" : "-") + ": '" + type_name(value) + "'");
}

namespace {

/// A bound of a slice as Python clamps it (PySlice_AdjustIndices).
int64_t bound(const Datum& value, int64_t size, int64_t absent, bool backwards) {
  if (value.is_none()) return absent;
  if (!value.is_int()) type_error("slice indices must be integers or None or have an __index__ method");
  int64_t at = value.as_int();
  if (at < 0) at = std::max<int64_t>(at + size, backwards ? -1 : 0);
  return std::min(at, backwards ? size - 1 : size);
}

}  // namespace

Datum slice(const Datum& value, const Datum& start, const Datum& stop, const Datum& step) {
  if (value.is_undefined()) use_undefined(value);
  const bool text = value.is_string(), range = value.is(Kind::range);
  if (value.is(Kind::dict)) type_error("unhashable type: 'slice'");
  if (!text && !range && !value.is(Kind::list) && !value.is(Kind::tuple))
    type_error("'" + type_name(value) + "' object is not subscriptable");
  if (!step.is_none() && !step.is_int())
    type_error("slice indices must be integers or None or have an __index__ method");
  const int64_t by = step.is_none() ? 1 : std::clamp<int64_t>(step.as_int(), -INT64_MAX, INT64_MAX);
  if (by == 0) raise("ValueError", "slice step cannot be zero");
  const int64_t size = length_of(value);
  const int64_t first = bound(start, size, by > 0 ? 0 : size - 1, by < 0),
                last = bound(stop, size, by > 0 ? size : -1, by < 0);
  if (range) {
    const RangeObject& r = value.range();
    int64_t stride = 0;
    if (__builtin_mul_overflow(r.step, by, &stride)) too_large();
    return Datum::range(r.start + first * r.step, r.start + last * r.step, stride);
  }
  std::vector<int64_t> places;
  for (int64_t i = first; by > 0 ? i < last : i > last;) {
    places.push_back(i);
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  spend_steps(static_cast<int64_t>(places.size()) / 16);
  if (!text) {
    std::vector<Datum> items;
    for (const int64_t i : places) items.push_back(value.items().items[static_cast<size_t>(i)]);
    return Datum::list(std::move(items), value.kind());
  }
  const std::string& from = value.str();
  const bool ascii = size == static_cast<int64_t>(from.size());
  const std::vector<size_t> starts = ascii ? std::vector<size_t>() : char_starts(from);
  const auto at = [&](int64_t i) { return ascii ? static_cast<size_t>(i) : starts[static_cast<size_t>(i)]; };
  std::string made;
  if (by == 1 && !places.empty())
    made = from.substr(at(places.front()), at(places.back() + 1) - at(places.front()));
  else
    for (const int64_t i : places) made.append(from, at(i), at(i + 1) - at(i));
  return Datum::string(std::move(made), value.text().markup);
}

}  // namespace ft::jinja
