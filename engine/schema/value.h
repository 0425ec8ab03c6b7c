#pragma once
/// The value that passes between Lua, YAML, JSON and the engine: plans, options, model descriptions, configs.
/// Maps keep their order (ranks must walk alike, and files keep their users' order). Each value may remember where its
/// text stands, so that a message can blame it. Owned by value; no thread rules.

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace ft {

/// Where a value was written: "recipes/my.lua" and a 1-based line; line 0 when unknown.
struct Origin {
  std::string file;
  int line = 0;
  std::string str() const;  ///< "file:line", "file" without a line, "" when unknown
};

class Value {
 public:
  enum class Kind { null, boolean, integer, number, string, list, map };
  using List = std::vector<Value>;
  using Map = std::vector<std::pair<std::string, Value>>;

  Value() = default;
  Value(bool v) : data_(v) {}
  Value(int v) : data_(int64_t{v}) {}
  Value(int64_t v) : data_(v) {}
  Value(double v) : data_(v) {}
  Value(const char* v) : data_(std::string(v)) {}
  Value(std::string v) : data_(std::move(v)) {}
  Value(List v) : data_(std::move(v)) {}
  Value(Map v) : data_(std::move(v)) {}
  static Value list(std::initializer_list<Value> items = {}) { return Value(List(items)); }
  static Value map(std::initializer_list<std::pair<std::string, Value>> items = {}) { return Value(Map(items)); }

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is_null() const { return kind() == Kind::null; }
  bool is_bool() const { return kind() == Kind::boolean; }
  bool is_integer() const { return kind() == Kind::integer; }
  bool is_number() const { return kind() == Kind::number || is_integer(); }
  bool is_string() const { return kind() == Kind::string; }
  bool is_list() const { return kind() == Kind::list; }
  bool is_map() const { return kind() == Kind::map; }

  /// Typed reads. @throws Error(config) "got string 'x', want integer", with the value's origin.
  bool as_bool() const;
  int64_t as_integer() const;  ///< also takes a number without a fraction
  double as_number() const;    ///< also takes an integer
  const std::string& as_string() const;
  const List& as_list() const;
  List& as_list();
  const Map& as_map() const;
  Map& as_map();

  /// The entry of a map, or nullptr (also when this is not a map).
  const Value* find(std::string_view key) const;
  Value* find(std::string_view key);
  /// The entry of a map. @throws Error(config) when it is absent, naming the key.
  const Value& at(std::string_view key) const;
  /// Sets an entry of a map in place, or appends it. A null value becomes an empty map first.
  Value& set(std::string_view key, Value value);
  /// Typed reads with a default for an absent or null entry: get("eps", 1e-6).
  bool get(std::string_view key, bool otherwise) const;
  int64_t get(std::string_view key, int64_t otherwise) const;
  int64_t get(std::string_view key, int otherwise) const { return get(key, int64_t{otherwise}); }
  double get(std::string_view key, double otherwise) const;
  std::string get(std::string_view key, const char* otherwise) const;

  bool operator==(const Value& other) const { return data_ == other.data_; }  ///< origins do not count

  Origin origin;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, List, Map> data_;
};

/// "null", "boolean", "integer", "number", "string", "list", "map".
const char* to_string(Value::Kind kind);

/// Short text for messages: strings quoted, long lists and maps cut: `'nf4'`, `[1, 2, …]`.
std::string describe(const Value& value);

}  // namespace ft
