// Python's json.dumps.
#include <algorithm>
#include <cmath>

#include "engine/template/evaluator.h"
#include "engine/template/python_text.h"
#include "engine/text/unicode.h"

namespace ft::jinja {
namespace {

class Writer {
 public:
  explicit Writer(const JsonText& how) : how_(how) {}

  void write(const Datum& value, int depth) {
    spend_steps(1);
    if (depth > kDeepest + 1) raise("RecursionError", "values nested too deeply for JSON");
    switch (value.kind()) {
      case Kind::none:
        out += "null";
        break;
      case Kind::boolean:
        out += value.as_int() ? "true" : "false";
        break;
      case Kind::integer:
        out += std::to_string(value.as_int());
        break;
      case Kind::number:
        out += number(value.as_double());
        break;
      case Kind::string:
        string(value.str());
        break;
      case Kind::list:
      case Kind::tuple:
        list(value.items().items, depth);
        break;
      case Kind::dict:
        dict(value.entries().items, depth);
        break;
      default:
        type_error("Object of type " + type_name(value) + " is not JSON serializable");
    }
  }

  std::string out;

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return repr(value);
  }

  void escaped_unit(uint32_t unit) {
    constexpr char kHex[] = "0123456789abcdef";
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += kHex[(unit >> shift) & 0xF];
  }

  void string(std::string_view text) {
    static constexpr std::string_view kFrom = "\"\\\n\r\t\f\b", kTo = "\"\\nrtfb";
    spend_bytes(static_cast<int64_t>(text.size()) * 2);
    out += '"';
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      const uint32_t c = unicode::next_char(text, at);
      const size_t plain = c < 0x80 ? kFrom.find(static_cast<char>(c)) : kFrom.npos;
      if (plain != kFrom.npos) {
        out += '\\';
        out += kTo[plain];
      } else if (c < 0x20 || (how_.ensure_ascii && c > 0x7E)) {
        constexpr uint32_t kFirstPair = 0x10000;
        if (c >= kFirstPair) {
          escaped_unit(0xD800 + ((c - kFirstPair) >> 10));
          escaped_unit(0xDC00 + ((c - kFirstPair) & 0x3FF));
        } else {
          escaped_unit(c);
        }
      } else {
        out += text.substr(begin, at - begin);
      }
    }
    out += '"';
  }

  void new_line(int depth) {
    if (!how_.indent) return;
    spend_product(depth, static_cast<int64_t>(how_.indent->size()) + 1);
    out += '\n';
    for (int i = 0; i < depth; ++i) out += *how_.indent;
  }

  void list(const std::vector<Datum>& items, int depth) {
    if (items.empty()) {
      out += "[]";
      return;
    }
    out += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += how_.item_separator;
      new_line(depth + 1);
      write(items[i], depth + 1);
    }
    new_line(depth);
    out += ']';
  }

  std::string key(const Datum& key) const {
    switch (key.kind()) {
      case Kind::string:
        return key.str();
      case Kind::number:
        return number(key.as_double());
      case Kind::boolean:
        return key.as_int() ? "true" : "false";
      case Kind::none:
        return "null";
      case Kind::integer:
        return std::to_string(key.as_int());
      default:
        type_error("keys must be str, int, float, bool or None, not " + type_name(key));
    }
  }

  void dict(const std::vector<std::pair<Datum, Datum>>& entries, int depth) {
    if (entries.empty()) {
      out += "{}";
      return;
    }
    std::vector<const std::pair<Datum, Datum>*> order;
    for (const auto& entry : entries) order.push_back(&entry);
    if (how_.sort_keys) {
      for (size_t i = 1; i < order.size(); ++i) compare(order[0]->first, order[i]->first, "<");  // may raise
      for (const auto& entry : entries)
        if (entry.first.kind() != entries[0].first.kind() && !(entry.first.is_real() && entries[0].first.is_real()))
          compare(entries[0].first, entry.first, "<");
      std::stable_sort(order.begin(), order.end(),
                       [](const auto* a, const auto* b) { return compare(a->first, b->first, "<") < 0; });
    }
    out += '{';
    for (size_t i = 0; i < order.size(); ++i) {
      if (i > 0) out += how_.item_separator;
      new_line(depth + 1);
      string(key(order[i]->first));
      out += how_.key_separator;
      write(order[i]->second, depth + 1);
    }
    new_line(depth);
    out += '}';
  }

  const JsonText& how_;
};

}  // namespace

std::string to_json(const Datum& value, const JsonText& how) {
  Writer writer(how);
  writer.write(value, 0);
  return std::move(writer.out);
}

}  // namespace ft::jinja
