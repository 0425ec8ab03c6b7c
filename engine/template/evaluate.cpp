// The evaluator's expressions.
#include <algorithm>

#include "engine/template/evaluator.h"
#include "engine/template/python_text.h"

namespace ft::jinja {

using Is = Node::Is;

namespace {

/// Counts a level of expressions.
class Level {
 public:
  explicit Level(int& depth) : depth_(depth) {
    constexpr int kMost = 1500;
    spend_steps(1);
    if (depth_ >= kMost) raise("RecursionError", "maximum recursion depth exceeded");
    ++depth_;
  }
  ~Level() { --depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  int& depth_;
};

}  // namespace

Datum Evaluator::eval_name(const Node& node) {
  for (const Scope* scope = scope_.get(); scope; scope = scope->outer.get())
    for (const auto& [name, value] : scope->values)
      if (*name == node.text) return value;
  if (const auto found = context_.find(node.text); found != context_.end()) return found->second;
  return Datum::undefined(repr(node.text) + " is undefined");
}

Datum Evaluator::eval(const Node& node) {
  const Level level(depth_);
  switch (node.is) {
    case Is::constant:
      return node.value;
    case Is::name:
      return eval_name(node);
    case Is::attribute:
      return attribute(eval(*node.kids[0]), node.text);
    case Is::item:
      if (node.kids[1]->is == Is::slice) return eval_slice(node);
      {
        const Datum object = eval(*node.kids[0]);
        return item(object, eval(*node.kids[1]));
      }
    case Is::call:
      return eval_call(node);
    case Is::filter:
      return eval_filter(node);
    case Is::test: {
      const Datum value = eval(*node.kids[0]);
      return Datum::boolean(test(node.text, value, arguments(node)));
    }
    case Is::unary:
      if (node.text == "not") return Datum::boolean(!truth(eval(*node.kids[0])));
      return negative(eval(*node.kids[0]), node.text == "+");
    case Is::binary:
      return eval_binary(node);
    case Is::compare:
      return eval_compare(node);
    case Is::condition:
      if (truth(eval(*node.kids[0]))) return eval(*node.kids[1]);
      if (node.kids[2]) return eval(*node.kids[2]);
      return Datum::undefined("the inline if-expression on line " + std::to_string(node.line) +
                              " evaluated to false and no else section was defined.");
    case Is::concat: {
      std::vector<Datum> parts;
      for (const NodePtr& kid : node.kids) parts.push_back(eval(*kid));
      std::string made;
      for (const Datum& part : parts) {
        const std::string piece = to_str(part);
        spend_bytes(static_cast<int64_t>(piece.size()));
        made += piece;
      }
      return Datum::string(std::move(made));
    }
    case Is::tuple:
    case Is::list: {
      std::vector<Datum> items;
      for (const NodePtr& kid : node.kids) items.push_back(eval(*kid));
      return Datum::list(std::move(items), node.is == Is::tuple ? Kind::tuple : Kind::list);
    }
    case Is::dict:
      return eval_dict(node);
    default:
      raise("TemplateRuntimeError", "a statement where an expression belongs");
  }
}

Datum Evaluator::eval_dict(const Node& node) {
  std::vector<std::pair<Datum, Datum>> items;
  for (size_t i = 0; i + 1 < node.kids.size(); i += 2) {
    Datum key = eval(*node.kids[i]), value = eval(*node.kids[i + 1]);
    check_hashable(key);
    const auto known =
        std::find_if(items.begin(), items.end(), [&](const auto& item) { return equal(item.first, key); });
    if (known != items.end())
      known->second = std::move(value);
    else
      items.emplace_back(std::move(key), std::move(value));
  }
  return Datum::dict(std::move(items));
}

Datum Evaluator::eval_binary(const Node& node) {
  Datum left = eval(*node.kids[0]);
  if (node.text == "and") return truth(left) ? eval(*node.kids[1]) : left;
  if (node.text == "or") return truth(left) ? left : eval(*node.kids[1]);
  const Datum right = eval(*node.kids[1]);
  return arithmetic(node.text, left, right);
}

Datum Evaluator::eval_compare(const Node& node) {
  Datum left = eval(*node.kids[0]);
  for (size_t i = 0; i < node.operators.size(); ++i) {
    Datum right = eval(*node.kids[i + 1]);
    const std::string& op = node.operators[i];
    bool holds = false;
    if (op == "==")
      holds = equal(left, right);
    else if (op == "!=")
      holds = !equal(left, right);
    else if (op == "in")
      holds = contains(right, left);
    else if (op == "not in")
      holds = !contains(right, left);
    else if ((left.is(Kind::number) && left.as_double() != left.as_double()) ||
             (right.is(Kind::number) && right.as_double() != right.as_double()))
      holds = false;
    else {
      const int order = compare(left, right, op.c_str());
      holds = op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
    }
    if (!holds) return Datum::boolean(false);
    left = std::move(right);
  }
  return Datum::boolean(true);
}

Datum Evaluator::eval_slice(const Node& node) {
  const Datum object = eval(*node.kids[0]);
  const auto part = [&](size_t i) {
    const NodePtr& kid = node.kids[1]->kids[i];
    return kid ? eval(*kid) : Datum::none();
  };
  const Datum start = part(0), stop = part(1), step = part(2);
  if (node.kids[0]->is != Is::constant) return slice(object, start, stop, step);
  try {
    return slice(object, start, stop, step);
  } catch (const Fault& fault) {  // jinja2 folds constants, by another way, which knows no errors
    if (fault.type != "TypeError") throw;
    return Datum::undefined(fault.message, "TypeError");  // a use of it ends the folding, and Python then says this
  }
}

Call Evaluator::arguments(const Node& node) {
  Call call;
  for (const NodePtr& kid : node.arguments.plain) call.args.push_back(eval(*kid));
  for (const auto& [name, kid] : node.arguments.named) call.named.emplace_back(name, eval(*kid));
  if (node.arguments.list)
    for (Datum& item : iterate(eval(*node.arguments.list))) call.args.push_back(std::move(item));
  if (node.arguments.map) {
    const Datum map = eval(*node.arguments.map);
    if (!map.is(Kind::dict)) type_error("argument after ** must be a mapping, not " + type_name(map));
    for (const auto& [key, value] : map.entries().items) {
      if (!key.is_string()) type_error("keywords must be strings");
      for (const auto& [name, given] : call.named)
        if (name == key.str()) type_error("got multiple values for keyword argument " + repr(name));
      call.named.emplace_back(key.str(), value);
    }
  }
  return call;
}

Datum Evaluator::eval_call(const Node& node) {
  const Node& callee = *node.kids[0];
  if (callee.is == Is::attribute) {  // a method of a value: no object is made of it
    const Datum object = eval(*callee.kids[0]);
    if (has_method(object, callee.text) && !is_unsafe(object, callee.text))
      return call_method(*this, object, callee.text, arguments(node));
    const Datum function = attribute(object, callee.text);
    return call(function, arguments(node));
  }
  const Datum function = eval(callee);
  return call(function, arguments(node));
}

Datum Evaluator::eval_filter(const Node& node, const Datum* given) {
  Datum value;
  if (node.kids[0])
    value = node.kids[0]->is == Is::filter && given ? eval_filter(*node.kids[0], given) : eval(*node.kids[0]);
  else if (given)
    value = *given;
  const Call call = arguments(node);
  const Filter filter = find_filter(node.text);
  if (!filter) raise("TemplateRuntimeError", "No filter named " + repr(node.text) + " found.");
  return filter(*this, value, call);
}

Datum Evaluator::filter(std::string_view name, const Datum& value, const Call& call) {
  const Level level(depth_);
  const Filter filter = find_filter(name);
  if (!filter) raise("TemplateRuntimeError", "No filter named " + repr(name) + ".");
  return filter(*this, value, call);
}

bool Evaluator::test(std::string_view name, const Datum& value, const Call& call) {
  spend_steps(1);
  const Test test = find_test(name);
  if (!test) raise("TemplateRuntimeError", "No test named " + repr(name) + " found.");
  return test(*this, value, call);
}

namespace {

Datum unsafe(const Datum& object, const std::string& name) {
  return Datum::undefined("access to attribute " + repr(name) + " of " + repr(type_name(object)) + " object is unsafe.",
                          "SecurityError");
}

Datum method(const Datum& object, const std::string& name) {
  return Datum::function(
      name,
      [object, name](Evaluator& evaluator, const Call& call) { return call_method(evaluator, object, name, call); },
      "builtin_function_or_method");
}

Datum missing(const Datum& object, const std::string& name) {
  return Datum::undefined(repr(object_name(object)) + " has no attribute " + repr(name));
}

Datum loop_attribute(const Datum& object, const std::string& name) {
  LoopObject& loop = object.loop();
  const auto size = static_cast<int64_t>(loop.items.size());
  const auto at = static_cast<size_t>(loop.index0);
  if (name == "index") return Datum::integer(loop.index0 + 1);
  if (name == "index0") return Datum::integer(loop.index0);
  if (name == "revindex") return Datum::integer(size - loop.index0);
  if (name == "revindex0") return Datum::integer(size - loop.index0 - 1);
  if (name == "first") return Datum::boolean(loop.index0 == 0);
  if (name == "last") return Datum::boolean(loop.index0 + 1 == size);
  if (name == "length") return Datum::integer(size);
  if (name == "depth") return Datum::integer(loop.depth0 + 1);
  if (name == "depth0") return Datum::integer(loop.depth0);
  if (name == "previtem") return at > 0 ? loop.items[at - 1] : Datum::undefined("there is no previous item");
  if (name == "nextitem")
    return at + 1 < loop.items.size() ? loop.items[at + 1] : Datum::undefined("there is no next item");
  return missing(object, name);
}

}  // namespace

/// a.b: Python's attribute where there is one, else the item.
Datum Evaluator::attribute(const Datum& object, const std::string& name) {
  static constexpr std::string_view kInternal[] = {
      "__class__",   "__init__",   "__new__", "__dict__",         "__doc__",
      "__module__",  "__repr__",   "__str__", "__getattribute__", "__setattr__",
      "__delattr__", "__hash__",   "__eq__",  "__ne__",           "__lt__",
      "__le__",      "__gt__",     "__ge__",  "__reduce__",       "__reduce_ex__",
      "__format__",  "__sizeof__", "__dir__", "__subclasshook__", "__init_subclass__"};
  const bool internal =
      name.starts_with("__") && std::find(std::begin(kInternal), std::end(kInternal), name) != std::end(kInternal);
  if (object.is_undefined() && internal && name != "__dict__") return unsafe(object, name);
  if (object.is_undefined()) use_undefined(object);
  if (object.is(Kind::name_space)) {
    if (name == "__class__") return unsafe(object, name);
    if (const Datum* found = object.entries().find(name)) return *found;
    return missing(object, name);
  }
  if (internal) return unsafe(object, name);
  if (object.is(Kind::loop) && !has_method(object, name)) return loop_attribute(object, name);
  if (object.is_real() && name == "real") return object.is_int() ? Datum::integer(object.as_int()) : object;
  if (object.is_real() && name == "imag") return object.is_int() ? Datum::integer(0) : Datum::number(0);
  if (object.is_int() && (name == "numerator" || name == "denominator"))
    return Datum::integer(name == "numerator" ? object.as_int() : 1);
  if (has_method(object, name)) return is_unsafe(object, name) ? unsafe(object, name) : method(object, name);
  if (object.is(Kind::dict))
    if (const Datum* found = object.entries().find(name)) return *found;
  if (object.is(Kind::function) && name == "name" && type_name(object) == "Macro")
    return Datum::string(object.function().name);
  return missing(object, name);
}

/// a[b]: Python's item, else (for a text) the attribute.
Datum Evaluator::item(const Datum& object, const Datum& key) {
  if (object.is_undefined()) use_undefined(object);
  if (object.is(Kind::dict) && hashable(key)) {
    if (const Datum* found = key.is_string() ? object.entries().find(key.str()) : object.entries().find(key))
      return *found;
  } else if (key.is_int() &&
             (object.is_string() || object.is(Kind::list) || object.is(Kind::tuple) || object.is(Kind::range))) {
    const int64_t size = length_of(object), at = key.as_int() < 0 ? key.as_int() + size : key.as_int();
    if (at >= 0 && at < size) {
      if (object.is(Kind::range)) return Datum::integer(object.range().start + at * object.range().step);
      if (!object.is_string()) return object.items().items[static_cast<size_t>(at)];
      const std::string& text = object.str();
      size_t begin = static_cast<size_t>(at), end = begin + 1;
      if (size != static_cast<int64_t>(text.size())) {
        spend_steps(size / 16);
        const std::vector<size_t> starts = char_starts(text);
        begin = starts[static_cast<size_t>(at)];
        end = starts[static_cast<size_t>(at) + 1];
      }
      return Datum::string(text.substr(begin, end - begin), object.text().markup);
    }
  }
  if (key.is_string()) {
    if (object.is(Kind::name_space)) return attribute(object, key.str());
    const Datum found = attribute(object, key.str());
    if (!found.is_undefined() ||
        (found.why_undefined() && found.why_undefined()->type == std::string_view("SecurityError")))
      return found;
    return missing(object, key.str());
  }
  return Datum::undefined(object_name(object) + " has no element " + to_repr(key));
}

}  // namespace ft::jinja
