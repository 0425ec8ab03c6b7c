#pragma once
/// What a chat template computes with: Python's values as far as a template can make them. Containers are shared and
/// never changed once they are built, but for namespaces; so a value is cheap to copy, and a message keeps its
/// identity through slices and lists. Used inside engine/template only, by one rendering on one thread.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ft::jinja {

class Datum;
class Evaluator;

enum class Kind : uint8_t {
  undefined,
  none,
  boolean,
  integer,
  number,
  string,
  list,
  tuple,
  dict,
  name_space,
  view,
  iterator,
  range,
  function,
  loop
};

struct TextObject {
  std::string text;
  bool markup = false;          ///< made by `safe`: what is added to it is escaped, as markupsafe does
  mutable int64_t length = -1;  ///< in characters, once it is known
};
struct ListObject {
  std::vector<Datum> items;
  int depth = 1;  ///< 1 + the deepest item's
};
struct DictObject {
  std::vector<std::pair<Datum, Datum>> items;  ///< in the order of insertion
  int depth = 1;
  const Datum* find(const Datum& key) const;
  const Datum* find(std::string_view key) const;
  void set(Datum key, Datum value);
};
/// A one-time iterator (`map`, `select`), or a view of a dict: what it yields is there already.
struct SequenceObject {
  std::vector<Datum> items;
  size_t at = 0;
  const char* type = "generator";
  int depth = 1;
};
struct RangeObject {
  int64_t start, stop, step;
  int64_t size() const;
};
struct UndefinedObject {
  std::string message;
  const char* type = "UndefinedError";
};
struct Call {
  std::vector<Datum> args;
  std::vector<std::pair<std::string, Datum>> named;
};
struct FunctionObject {
  std::string name;
  const char* type = "function";
  std::function<Datum(Evaluator&, const Call&)> body;
};
struct LoopObject;

class Datum {
 public:
  Datum() = default;  ///< undefined without a name
  static Datum none() { return Datum(Kind::none); }
  static Datum boolean(bool v);
  static Datum integer(int64_t v);
  static Datum number(double v);
  static Datum string(std::string text, bool markup = false);
  /// @throws Fault(RecursionError) for a container nested deeper than kDeepest
  static Datum list(std::vector<Datum> items, Kind kind = Kind::list);
  static Datum dict(std::vector<std::pair<Datum, Datum>> items);  ///< keys differ
  static Datum name_space();
  static Datum sequence(Kind kind, std::vector<Datum> items, const char* type);
  static Datum range(int64_t start, int64_t stop, int64_t step);
  static Datum undefined(std::string message, const char* type = "UndefinedError");
  static Datum function(std::string name, std::function<Datum(Evaluator&, const Call&)> body,
                        const char* type = "function");
  static Datum loop(std::shared_ptr<LoopObject> loop);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_undefined() const { return kind_ == Kind::undefined; }
  bool is_none() const { return kind_ == Kind::none; }
  bool is_string() const { return kind_ == Kind::string; }
  bool is_int() const { return kind_ == Kind::integer || kind_ == Kind::boolean; }  ///< as isinstance(x, int)
  bool is_real() const { return is_int() || kind_ == Kind::number; }
  int64_t as_int() const { return integer_; }
  double as_double() const { return kind_ == Kind::number ? number_ : static_cast<double>(integer_); }
  const TextObject& text() const { return *static_cast<const TextObject*>(object_.get()); }
  const std::string& str() const { return text().text; }
  const ListObject& items() const { return *static_cast<const ListObject*>(object_.get()); }
  const DictObject& entries() const { return *static_cast<const DictObject*>(object_.get()); }
  DictObject& attributes() const { return *static_cast<DictObject*>(object_.get()); }  ///< of a namespace
  SequenceObject& sequence() const { return *static_cast<SequenceObject*>(object_.get()); }
  const RangeObject& range() const { return *static_cast<const RangeObject*>(object_.get()); }
  const FunctionObject& function() const { return *static_cast<const FunctionObject*>(object_.get()); }
  LoopObject& loop() const { return *static_cast<LoopObject*>(object_.get()); }
  const UndefinedObject* why_undefined() const { return static_cast<const UndefinedObject*>(object_.get()); }
  const void* identity() const { return object_.get(); }
  const std::shared_ptr<void>& object() const { return object_; }

 private:
  explicit Datum(Kind kind) : kind_(kind) {}
  Kind kind_ = Kind::undefined;
  union {
    int64_t integer_ = 0;
    double number_;
  };
  std::shared_ptr<void> object_;
};

/// The `loop` of a for loop.
struct LoopObject {
  std::vector<Datum> items;
  int64_t index0 = 0;
  int depth0 = 0;
  bool started = false;
  std::vector<Datum> changed;  ///< what `loop.changed` saw last; empty before
  std::function<Datum(Evaluator&, const Datum&)> recurse;
};

}  // namespace ft::jinja
