#include "engine/template/datum.h"

#include <algorithm>
#include <cmath>

#include "engine/template/protocols.h"

namespace ft::jinja {

Datum Datum::boolean(bool v) {
  Datum out(Kind::boolean);
  out.integer_ = v;
  return out;
}

Datum Datum::integer(int64_t v) {
  Datum out(Kind::integer);
  out.integer_ = v;
  return out;
}

Datum Datum::number(double v) {
  Datum out(Kind::number);
  out.number_ = v;
  return out;
}

Datum Datum::string(std::string text, bool markup) {
  constexpr int64_t kOverhead = 64;
  spend_bytes(static_cast<int64_t>(text.size()) + kOverhead);
  Datum out(Kind::string);
  out.object_ = std::make_shared<TextObject>(TextObject{std::move(text), markup});
  return out;
}

namespace {

int checked_depth(int depth) {
  if (depth > kDeepest) raise("RecursionError", "values nested deeper than " + std::to_string(kDeepest));
  return depth;
}

}  // namespace

int depth_of(const Datum& value) {
  switch (value.kind()) {
    case Kind::list:
    case Kind::tuple:
      return value.items().depth;
    case Kind::dict:
    case Kind::name_space:
      return value.entries().depth;
    case Kind::view:
    case Kind::iterator:
      return value.sequence().depth;
    default:
      return 0;
  }
}

namespace {

int depth_over(const std::vector<Datum>& items) {
  spend_bytes(static_cast<int64_t>(items.size() * sizeof(Datum)));
  int depth = 0;
  for (const Datum& item : items) depth = std::max(depth, depth_of(item));
  return checked_depth(depth + 1);
}

}  // namespace

Datum Datum::list(std::vector<Datum> items, Kind kind) {
  const int depth = depth_over(items);
  Datum out(kind);
  out.object_ = std::make_shared<ListObject>(ListObject{std::move(items), depth});
  return out;
}

Datum Datum::dict(std::vector<std::pair<Datum, Datum>> items) {
  spend_bytes(static_cast<int64_t>(items.size() * 2 * sizeof(Datum)));
  int depth = 0;
  for (const auto& [key, value] : items) depth = std::max({depth, depth_of(key), depth_of(value)});
  Datum out(Kind::dict);
  out.object_ = std::make_shared<DictObject>(DictObject{std::move(items), checked_depth(depth + 1)});
  return out;
}

Datum Datum::name_space() {
  Datum out(Kind::name_space);
  out.object_ = std::make_shared<DictObject>();
  return out;
}

Datum Datum::sequence(Kind kind, std::vector<Datum> items, const char* type) {
  const int depth = depth_over(items);
  Datum out(kind);
  out.object_ = std::make_shared<SequenceObject>(SequenceObject{std::move(items), 0, type, depth});
  return out;
}

Datum Datum::range(int64_t start, int64_t stop, int64_t step) {
  Datum out(Kind::range);
  out.object_ = std::make_shared<RangeObject>(RangeObject{start, stop, step});
  return out;
}

Datum Datum::undefined(std::string message, const char* type) {
  Datum out;
  out.object_ = std::make_shared<UndefinedObject>(UndefinedObject{std::move(message), type});
  return out;
}

Datum Datum::function(std::string name, std::function<Datum(Evaluator&, const Call&)> body, const char* type) {
  Datum out(Kind::function);
  out.object_ = std::make_shared<FunctionObject>(FunctionObject{std::move(name), type, std::move(body)});
  return out;
}

Datum Datum::loop(std::shared_ptr<LoopObject> loop) {
  Datum out(Kind::loop);
  out.object_ = std::move(loop);
  return out;
}

int64_t RangeObject::size() const {
  if (step > 0) return start < stop ? (stop - start - 1) / step + 1 : 0;
  return start > stop ? (start - stop - 1) / -step + 1 : 0;
}

const Datum* DictObject::find(const Datum& key) const {
  for (const auto& [name, value] : items)
    if (equal(name, key)) return &value;
  return nullptr;
}

const Datum* DictObject::find(std::string_view key) const {
  for (const auto& [name, value] : items)
    if (name.is_string() && name.str() == key) return &value;
  return nullptr;
}

void DictObject::set(Datum key, Datum value) {
  depth = checked_depth(std::max({depth, 1 + depth_of(key), 1 + depth_of(value)}));
  for (auto& [name, old] : items)
    if (equal(name, key)) {
      old = std::move(value);
      return;
    }
  items.emplace_back(std::move(key), std::move(value));
}

}  // namespace ft::jinja
