#include "engine/template/protocols.h"

#include <algorithm>
#include <cmath>

#include "engine/template/python_text.h"

namespace ft::jinja {
namespace {

void check_depth(int depth) {
  if (depth > kDeepest) raise("RecursionError", "values nested deeper than " + std::to_string(kDeepest));
}

}  // namespace

void use_undefined(const Datum& value) {
  const UndefinedObject* why = value.why_undefined();
  if (!why) raise("UndefinedError", "value is undefined");
  raise(why->type, why->message);
}

bool truth(const Datum& value) {
  switch (value.kind()) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
    case Kind::integer:
      return value.as_int() != 0;
    case Kind::number:
      return value.as_double() != 0;
    case Kind::string:
      return !value.str().empty();
    case Kind::list:
    case Kind::tuple:
      return !value.items().items.empty();
    case Kind::dict:
      return !value.entries().items.empty();
    case Kind::view:
      return !value.sequence().items.empty();
    case Kind::range:
      return value.range().size() > 0;
    default:
      return true;
  }
}

namespace {

bool same_items(const std::vector<Datum>& a, const std::vector<Datum>& b, int depth) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (!equal(a[i], b[i], depth + 1)) return false;
  return true;
}

bool same_entries(const DictObject& a, const DictObject& b, int depth) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, value] : a.items) {
    const Datum* other = b.find(key);
    if (!other || !equal(value, *other, depth + 1)) return false;
  }
  return true;
}

}  // namespace

bool equal(const Datum& a, const Datum& b, int depth) {
  spend_steps(1);
  check_depth(depth);
  if (a.is_real() && b.is_real())
    return a.is_int() && b.is_int() ? a.as_int() == b.as_int() : a.as_double() == b.as_double();
  if (a.kind() != b.kind()) return false;
  if (a.is_undefined() || a.is_none()) return true;
  if (a.identity() == b.identity()) return true;
  switch (a.kind()) {
    case Kind::string:
      return a.str() == b.str();
    case Kind::list:
    case Kind::tuple:
      return same_items(a.items().items, b.items().items, depth);
    case Kind::dict:
      return same_entries(a.entries(), b.entries(), depth);
    case Kind::range:
      return same_items(iterate(a), iterate(b), depth);
    case Kind::view:
      return a.sequence().type != std::string_view("dict_values") &&
             same_items(a.sequence().items, b.sequence().items, depth);
    default:
      return false;
  }
}

int compare(const Datum& a, const Datum& b, const char* op, int depth) {
  spend_steps(1);
  check_depth(depth);
  if (a.is_undefined()) use_undefined(a);
  if (b.is_undefined()) use_undefined(b);
  if (a.is_int() && b.is_int()) return a.as_int() < b.as_int() ? -1 : a.as_int() > b.as_int();
  if (a.is_real() && b.is_real()) return a.as_double() < b.as_double() ? -1 : a.as_double() > b.as_double();
  if (a.is_string() && b.is_string()) {  // bytes of UTF-8 stand in the order of code points
    const int order = a.str().compare(b.str());
    return order < 0 ? -1 : order > 0;
  }
  if (a.kind() == b.kind() && (a.is(Kind::list) || a.is(Kind::tuple))) {
    const auto &x = a.items().items, &y = b.items().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!equal(x[i], y[i], depth + 1)) return compare(x[i], y[i], op, depth + 1);
    return x.size() < y.size() ? -1 : x.size() > y.size();
  }
  type_error("'" + std::string(op) + "' not supported between instances of '" + type_name(a) + "' and '" +
             type_name(b) + "'");
}

bool hashable(const Datum& value) {
  if (value.is(Kind::tuple)) return std::all_of(value.items().items.begin(), value.items().items.end(), hashable);
  return !value.is(Kind::list) && !value.is(Kind::dict);
}

void check_hashable(const Datum& value) {
  if (!hashable(value)) type_error("unhashable type: '" + type_name(value) + "'");
}

bool contains(const Datum& container, const Datum& item) {
  switch (container.kind()) {
    case Kind::string:
      if (!item.is_string()) type_error("'in <string>' requires string as left operand, not " + type_name(item));
      return container.str().find(item.str()) != std::string::npos;
    case Kind::dict:
      check_hashable(item);
      return container.entries().find(item) != nullptr;
    case Kind::undefined:
    case Kind::list:
    case Kind::tuple:
    case Kind::view:
    case Kind::iterator:
    case Kind::range: {
      for (const Datum& other : iterate(container))
        if (equal(other, item)) return true;
      return false;
    }
    default:
      type_error("argument of type '" + type_name(container) + "' is not iterable");
  }
}

std::string type_name(const Datum& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return "Undefined";
    case Kind::none:
      return "NoneType";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "int";
    case Kind::number:
      return "float";
    case Kind::string:
      return value.text().markup ? "Markup" : "str";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::dict:
      return "dict";
    case Kind::name_space:
      return "TemplateNamespace";
    case Kind::view:
    case Kind::iterator:
      return value.sequence().type;
    case Kind::range:
      return "range";
    case Kind::function:
      return value.function().type;
    case Kind::loop:
      return "LoopContext";
  }
  return "object";
}

std::string object_name(const Datum& value) {
  switch (value.kind()) {
    case Kind::none:
      return "None";
    case Kind::undefined:
      return "jinja2.runtime.Undefined object";
    case Kind::name_space:
      return "transformers.utils.chat_template_utils." + type_name(value) + " object";
    case Kind::loop:
      return "jinja2.runtime.LoopContext object";
    case Kind::string:
      return value.text().markup ? "markupsafe.Markup object" : "str object";
    case Kind::function:
      if (const std::string type = type_name(value); type == "Macro" || type == "TemplateReference")
        return "jinja2.runtime." + type + " object";
      return type_name(value) + " object";
    default:
      return type_name(value) + " object";
  }
}

namespace {

void append_repr(const Datum& value, std::string& out, int depth);

void append_items(const std::vector<Datum>& items, std::string& out, int depth) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(items[i], out, depth + 1);
  }
}

void append_entries(const DictObject& dict, std::string& out, int depth) {
  out += '{';
  bool first = true;
  for (const auto& [key, item] : dict.items) {
    if (!first) out += ", ";
    first = false;
    append_repr(key, out, depth + 1);
    out += ": ";
    append_repr(item, out, depth + 1);
  }
  out += '}';
}

void append_repr(const Datum& value, std::string& out, int depth) {
  spend_steps(1);
  if (value.is_string()) spend_bytes(static_cast<int64_t>(value.str().size()));
  check_depth(depth);
  switch (value.kind()) {
    case Kind::undefined:
      out += "Undefined";
      break;
    case Kind::none:
      out += "None";
      break;
    case Kind::boolean:
      out += value.as_int() ? "True" : "False";
      break;
    case Kind::integer:
      out += std::to_string(value.as_int());
      break;
    case Kind::number:
      out += repr(value.as_double());
      break;
    case Kind::string:
      out += value.text().markup ? "Markup(" + repr(value.str()) + ")" : repr(value.str());
      break;
    case Kind::list:
      out += '[';
      append_items(value.items().items, out, depth);
      out += ']';
      break;
    case Kind::tuple:
      out += '(';
      append_items(value.items().items, out, depth);
      out += value.items().items.size() == 1 ? ",)" : ")";
      break;
    case Kind::dict:
      append_entries(value.entries(), out, depth);
      break;
    case Kind::name_space:
      out += "<Namespace ";
      append_entries(value.entries(), out, depth);
      out += '>';
      break;
    case Kind::view:
      out += std::string(value.sequence().type) + "([";
      append_items(value.sequence().items, out, depth);
      out += "])";
      break;
    case Kind::range: {
      const RangeObject& r = value.range();
      out += "range(" + std::to_string(r.start) + ", " + std::to_string(r.stop) +
             (r.step == 1 ? ")" : ", " + std::to_string(r.step) + ")");
      break;
    }
    case Kind::loop:
      out += "<LoopContext " + std::to_string(value.loop().index0 + 1) + "/" +
             std::to_string(value.loop().items.size()) + ">";
      break;
    case Kind::function:
      if (const std::string_view type = value.function().type; type == "TemplateReference")
        out += "<TemplateReference None>";
      else
        out += type == "Macro" ? "<Macro " + repr(value.function().name) + ">"
                               : "<function " + value.function().name + ">";
      break;
    case Kind::iterator:
      out += "<" + type_name(value) + " object>";
      break;
  }
}

}  // namespace

std::string to_repr(const Datum& value) {
  std::string out;
  append_repr(value, out, 0);
  return out;
}

std::string to_str(const Datum& value) {
  if (value.is_string()) return value.str();
  return value.is_undefined() ? "" : to_repr(value);
}

int64_t length_of(const Datum& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return 0;
    case Kind::string:
      if (value.text().length < 0) value.text().length = count_chars(value.str());
      return value.text().length;
    case Kind::list:
    case Kind::tuple:
      return static_cast<int64_t>(value.items().items.size());
    case Kind::dict:
      return static_cast<int64_t>(value.entries().items.size());
    case Kind::view:
      return static_cast<int64_t>(value.sequence().items.size());
    case Kind::range:
      return value.range().size();
    case Kind::loop:
      return static_cast<int64_t>(value.loop().items.size());
    default:
      type_error("object of type '" + type_name(value) + "' has no len()");
  }
}

std::vector<Datum> iterate(const Datum& value) {
  if (!value.is(Kind::iterator) && !value.is(Kind::undefined) && (value.is_string() || !value.is_real())) {
    if (type_name(value) == "TemplateReference") raise("KeyError", "0");  // it has items by their names alone
    if (value.is(Kind::none) || value.is(Kind::function) || value.is(Kind::name_space) || value.is(Kind::loop))
      type_error("'" + type_name(value) + "' object is not iterable");
    spend_steps(length_of(value));
  }
  std::vector<Datum> out;
  switch (value.kind()) {
    case Kind::undefined:
      return out;
    case Kind::string: {
      const std::vector<size_t> starts = char_starts(value.str());
      for (size_t i = 0; i + 1 < starts.size(); ++i)
        out.push_back(Datum::string(value.str().substr(starts[i], starts[i + 1] - starts[i])));
      return out;
    }
    case Kind::list:
    case Kind::tuple:
      return value.items().items;
    case Kind::dict:
      for (const auto& [key, item] : value.entries().items) out.push_back(key);
      return out;
    case Kind::view:
      return value.sequence().items;
    case Kind::iterator: {
      SequenceObject& sequence = value.sequence();
      out.assign(sequence.items.begin() + static_cast<std::ptrdiff_t>(sequence.at), sequence.items.end());
      sequence.at = sequence.items.size();
      return out;
    }
    case Kind::range: {
      const RangeObject& r = value.range();
      for (int64_t i = 0; i < r.size(); ++i) out.push_back(Datum::integer(r.start + i * r.step));
      return out;
    }
    default:
      type_error("'" + type_name(value) + "' object is not iterable");
  }
}

}  // namespace ft::jinja
