#pragma once
/// Renders one template once, with Python's and jinja2's semantics. Used by ChatTemplate; one use, one thread.

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/template/chat_template.h"
#include "engine/template/protocols.h"
#include "engine/template/syntax.h"

namespace ft::jinja {

class Evaluator {
 public:
  /// @param messages the conversation's messages, to say which text belongs to which
  Evaluator(std::vector<std::pair<std::string, Datum>> variables, const std::vector<Datum>& messages, std::string now);
  ~Evaluator();

  void render(const std::vector<NodePtr>& body);

  // What filters, tests and methods call.
  Datum call(const Datum& function, const Call& call);
  Datum filter(std::string_view name, const Datum& value, const Call& call);
  bool test(std::string_view name, const Datum& value, const Call& call);
  Datum attribute(const Datum& object, const std::string& name);
  Datum item(const Datum& object, const Datum& key);
  Datum make_namespace(const Call& call);
  const std::string& now() const { return now_; }

  std::string text;
  std::vector<TextRange> generations;  ///< as transformers counts them, in bytes
  bool generations_exact = true;       ///< false where one stands elsewhere, since it was kept before it was printed
  std::vector<MessagePiece> pieces;
  int line = 0;  ///< of the statement that was running

 private:
  struct Scope {
    std::shared_ptr<Scope> outer;
    std::vector<std::pair<const std::string*, Datum>> values;
  };
  using ScopePtr = std::shared_ptr<Scope>;
  enum class Flow { normal, break_, continue_ };
  struct Loop;
  class Enter;
  class Frame;

  Flow run(const std::vector<NodePtr>& body);
  Flow run(const Node& node);
  Flow run_for(const Node& node, const Datum& what, int depth);
  Flow run_loop(const Node& node, const std::shared_ptr<LoopObject>& loop, bool int_items);
  void run_set(const Node& node);
  void run_generation(const Node& node);
  void run_call_block(const Node& node);
  std::string captured(const std::vector<NodePtr>& body, ScopePtr scope);
  void emit(std::string_view piece);
  Datum macro(const Node& node);
  Datum call_macro(const Node& node, const ScopePtr& outer, const Call& call);
  void bind_parameters(const Node& node, const Call& call);
  void assign(const Node& target, const Datum& value);
  void check_target(const Node& target);
  void store(const std::string& name, Datum value);

  Datum eval(const Node& node);
  Datum eval_name(const Node& node);
  Datum eval_binary(const Node& node);
  Datum eval_compare(const Node& node);
  Datum eval_slice(const Node& node);
  Datum eval_call(const Node& node);
  Datum eval_filter(const Node& node, const Datum* given = nullptr);
  Datum eval_dict(const Node& node);
  Call arguments(const Node& node);
  int message_of(const Datum& value) const;

  std::unordered_map<std::string, Datum> context_;
  std::unordered_map<const void*, int> messages_;
  std::vector<ScopePtr> captured_scopes_;      // kept by macros, which they keep: emptied at the end
  std::vector<std::shared_ptr<void>> spaces_;  // namespaces, which may hold one another
  ScopePtr scope_;
  std::string* out_ = &text;
  std::string now_;
  int depth_ = 0;
  int message_ = -1;                                              // whose text is being made
  std::vector<std::pair<size_t, std::string>> kept_generations_;  // made before they were printed: place, and text
  bool int_item_ = false;                                         // the innermost loop goes over numbers
};

std::vector<std::pair<std::string, Datum>> global_functions();

/// a OP b for + - * / // % **   @throws Fault
Datum arithmetic(std::string_view op, const Datum& a, const Datum& b);
Datum negative(const Datum& value, bool keep_sign);
/// sequence[start:stop:step]
Datum slice(const Datum& value, const Datum& start, const Datum& stop, const Datum& step);
std::string escape_html(std::string_view text);
/// Python's `format % arguments`, and format.format(…)
std::string percent_format(std::string_view format, const Datum& arguments);
std::string brace_format(Evaluator& evaluator, std::string_view format, const Call& call);

/// json.dumps with what transformers' `tojson` takes.
struct JsonText {
  bool ensure_ascii = false, sort_keys = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ", key_separator = ": ";
};
std::string to_json(const Datum& value, const JsonText& how);

using Filter = Datum (*)(Evaluator&, const Datum&, const Call&);
using Test = bool (*)(Evaluator&, const Datum&, const Call&);
/// nullptr where there is none of that name
Filter find_filter(std::string_view name);
Filter find_list_filter(std::string_view name);
Test find_test(std::string_view name);
/// Whether Python's object has a method of that name; whether it would change the object.
bool has_method(const Datum& object, std::string_view name);
bool is_unsafe(const Datum& object, std::string_view name);
Datum call_method(Evaluator& evaluator, const Datum& object, const std::string& name, const Call& call);

/// A call's arguments by the names of its parameters; absent ones stay undefined.
class Bound {
 public:
  /// @param least how many of them the call must give
  Bound(const Call& call, const char* function, std::initializer_list<const char*> names, size_t least = 0);
  bool has(size_t i) const { return given_[i]; }
  const Datum& operator[](size_t i) const { return values_[i]; }
  Datum get(size_t i, Datum otherwise) const { return given_[i] ? values_[i] : otherwise; }
  bool flag(size_t i, bool otherwise = false) const { return given_[i] ? truth(values_[i]) : otherwise; }
  /// @throws Fault(TypeError) for what is no integer
  int64_t integer(size_t i, int64_t otherwise) const;

 private:
  std::vector<Datum> values_;
  std::vector<bool> given_;
};
int64_t want_int(const Datum& value);

}  // namespace ft::jinja
