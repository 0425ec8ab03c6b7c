#include "engine/schema/value.h"

#include <cmath>
#include <sstream>

#include "engine/error/error.h"

namespace ft {
namespace {

[[noreturn]] void wrong_kind(const Value& got, const char* want) {
  throw Error(ErrorKind::config, std::string("got ") + to_string(got.kind()) + " " + describe(got) + ", want " + want)
      .at(got.origin.str());
}

}  // namespace

std::string Origin::str() const {
  if (file.empty() || line == 0) return file;
  return file + ":" + std::to_string(line);
}

bool Value::as_bool() const {
  if (!is_bool()) wrong_kind(*this, "boolean");
  return std::get<bool>(data_);
}

int64_t Value::as_integer() const {
  if (is_integer()) return std::get<int64_t>(data_);
  constexpr double kExact = 9007199254740992.0;  // 2^53: above it a double no longer holds every integer
  if (kind() == Kind::number) {
    const double v = std::get<double>(data_);
    if (std::trunc(v) == v && std::abs(v) <= kExact) return static_cast<int64_t>(v);
  }
  wrong_kind(*this, "integer");
}

double Value::as_number() const {
  if (is_integer()) return static_cast<double>(std::get<int64_t>(data_));
  if (kind() != Kind::number) wrong_kind(*this, "number");
  return std::get<double>(data_);
}

const std::string& Value::as_string() const {
  if (!is_string()) wrong_kind(*this, "string");
  return std::get<std::string>(data_);
}

const Value::List& Value::as_list() const {
  if (!is_list()) wrong_kind(*this, "list");
  return std::get<List>(data_);
}

Value::List& Value::as_list() { return const_cast<List&>(std::as_const(*this).as_list()); }

const Value::Map& Value::as_map() const {
  if (!is_map()) wrong_kind(*this, "map");
  return std::get<Map>(data_);
}

Value::Map& Value::as_map() { return const_cast<Map&>(std::as_const(*this).as_map()); }

const Value* Value::find(std::string_view key) const {
  if (!is_map()) return nullptr;
  for (const auto& [name, value] : std::get<Map>(data_))
    if (name == key) return &value;
  return nullptr;
}

Value* Value::find(std::string_view key) { return const_cast<Value*>(std::as_const(*this).find(key)); }

const Value& Value::at(std::string_view key) const {
  if (const Value* found = find(key)) return *found;
  throw Error(ErrorKind::config, "is missing").key(std::string(key)).at(origin.str());
}

Value& Value::set(std::string_view key, Value value) {
  if (is_null()) data_ = Map{};
  if (Value* found = find(key)) return *found = std::move(value);
  return as_map().emplace_back(std::string(key), std::move(value)).second;
}

bool Value::get(std::string_view key, bool otherwise) const {
  const Value* found = find(key);
  return found && !found->is_null() ? found->as_bool() : otherwise;
}

int64_t Value::get(std::string_view key, int64_t otherwise) const {
  const Value* found = find(key);
  return found && !found->is_null() ? found->as_integer() : otherwise;
}

double Value::get(std::string_view key, double otherwise) const {
  const Value* found = find(key);
  return found && !found->is_null() ? found->as_number() : otherwise;
}

std::string Value::get(std::string_view key, const char* otherwise) const {
  const Value* found = find(key);
  return found && !found->is_null() ? found->as_string() : otherwise;
}

const char* to_string(Value::Kind kind) {
  static constexpr const char* kNames[] = {"null", "boolean", "integer", "number", "string", "list", "map"};
  return kNames[static_cast<int>(kind)];
}

std::string describe(const Value& value) {
  constexpr size_t kMostItems = 4, kMostChars = 60;
  std::ostringstream out;
  switch (value.kind()) {
    case Value::Kind::null:
      return "null";
    case Value::Kind::boolean:
      return value.as_bool() ? "true" : "false";
    case Value::Kind::integer:
      return std::to_string(value.as_integer());
    case Value::Kind::number:
      out << value.as_number();
      return out.str();
    case Value::Kind::string: {
      const std::string& text = value.as_string();
      return "'" + (text.size() > kMostChars ? text.substr(0, kMostChars) + "…" : text) + "'";
    }
    case Value::Kind::list: {
      out << '[';
      for (size_t i = 0; i < value.as_list().size(); ++i) {
        if (i == kMostItems) {
          out << ", …";
          break;
        }
        out << (i ? ", " : "") << describe(value.as_list()[i]);
      }
      out << ']';
      return out.str();
    }
    case Value::Kind::map: {
      out << '{';
      for (size_t i = 0; i < value.as_map().size(); ++i) {
        if (i == kMostItems) {
          out << ", …";
          break;
        }
        out << (i ? ", " : "") << value.as_map()[i].first << " = " << describe(value.as_map()[i].second);
      }
      out << '}';
      return out.str();
    }
  }
  return "";
}

}  // namespace ft
