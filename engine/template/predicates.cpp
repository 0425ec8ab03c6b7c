// What stands behind `is` (jinja2/tests.py).
#include <cmath>
#include <map>

#include "engine/template/evaluator.h"
#include "engine/template/python_text.h"

namespace ft::jinja {
namespace {

template <bool (*holds)(const Datum&)>
bool plain(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "test", {});
  return holds(value);
}

bool is_iterable(const Datum& value) {
  switch (value.kind()) {
    case Kind::none:
    case Kind::boolean:
    case Kind::integer:
    case Kind::number:
    case Kind::name_space:
      return false;
    case Kind::function:
      return type_name(value) == "TemplateReference";  // it has items
    default:
      return true;
  }
}

bool is_sequence(const Datum& value) {
  return value.is_string() || value.is(Kind::list) || value.is(Kind::tuple) || value.is(Kind::dict) ||
         value.is(Kind::range);
}

bool is_callable(const Datum& value) {
  // Undefined has a __call__, which raises
  return (value.is(Kind::function) && type_name(value) != "TemplateReference") || value.is(Kind::loop) ||
         value.is_undefined();
}

Datum remainder(const Datum& value, const Datum& by) { return arithmetic("%", value, by); }

template <int64_t rest>
bool parity(Evaluator&, const Datum& value, const Call&) {
  return equal(remainder(value, Datum::integer(2)), Datum::integer(rest));
}

const Datum& operand(const Call& call, const char* name) {
  if (call.args.size() != 1 || !call.named.empty())
    type_error(std::string(name) + " expected 2 arguments, got " +
               std::to_string(1 + call.args.size() + call.named.size()));
  return call.args[0];
}

bool divisible(Evaluator&, const Datum& value, const Call& call) {
  return !truth(remainder(value, operand(call, "divisibleby")));
}

bool same(Evaluator&, const Datum& value, const Call& call) {
  const Datum& other = operand(call, "sameas");
  if (value.kind() != other.kind()) return false;
  if (value.is_int()) return value.as_int() == other.as_int();
  return value.identity() == other.identity();
}

bool is_boolean_value(const Datum& v) { return v.is(Kind::boolean); }
bool is_defined_value(const Datum& v) { return !v.is_undefined(); }
bool is_escaped_value(const Datum& v) { return v.is_string() && v.text().markup; }
bool is_false(const Datum& v) { return v.is(Kind::boolean) && !v.as_int(); }
bool is_float(const Datum& v) { return v.is(Kind::number); }
bool is_integer_value(const Datum& v) { return v.is(Kind::integer); }
bool is_lower_value(const Datum& v) { return is_all(to_str(v), "lower"); }
bool is_mapping_value(const Datum& v) { return v.is(Kind::dict); }
bool is_none_value(const Datum& v) { return v.is_none(); }
bool is_number_value(const Datum& v) { return v.is_real(); }
bool is_sequence_value(const Datum& v) { return is_sequence(v) || v.is_undefined(); }
bool is_string_value(const Datum& v) { return v.is_string(); }
bool is_true(const Datum& v) { return v.is(Kind::boolean) && v.as_int(); }
bool is_undefined_value(const Datum& v) { return v.is_undefined(); }
bool is_upper_value(const Datum& v) { return is_all(to_str(v), "upper"); }

enum class Order { equal, unequal, less, less_equal, greater, greater_equal };

template <Order order>
bool ordered(Evaluator&, const Datum& value, const Call& call) {
  const Datum& other = operand(call, "comparison");
  if (order == Order::equal) return equal(value, other);
  if (order == Order::unequal) return !equal(value, other);
  static constexpr const char* kShown[] = {"==", "!=", "<", "<=", ">", ">="};
  const int way = compare(value, other, kShown[static_cast<int>(order)]);
  return order == Order::less         ? way < 0
         : order == Order::less_equal ? way <= 0
         : order == Order::greater    ? way > 0
                                      : way >= 0;
}

bool is_in(Evaluator&, const Datum& value, const Call& call) { return contains(operand(call, "in"), value); }

bool names_filter(Evaluator&, const Datum& value, const Call&) {
  check_hashable(value);
  return value.is_string() && is_filter(value.str());
}
bool names_test(Evaluator&, const Datum& value, const Call&) {
  check_hashable(value);
  return value.is_string() && is_test(value.str());
}

const std::map<std::string_view, Test>& all_tests() {
  static const std::map<std::string_view, Test> tests{{"boolean", plain<is_boolean_value>},
                                                      {"callable", plain<is_callable>},
                                                      {"defined", plain<is_defined_value>},
                                                      {"divisibleby", divisible},
                                                      {"escaped", plain<is_escaped_value>},
                                                      {"even", parity<0>},
                                                      {"false", plain<is_false>},
                                                      {"filter", names_filter},
                                                      {"float", plain<is_float>},
                                                      {"in", is_in},
                                                      {"integer", plain<is_integer_value>},
                                                      {"iterable", plain<is_iterable>},
                                                      {"lower", plain<is_lower_value>},
                                                      {"mapping", plain<is_mapping_value>},
                                                      {"none", plain<is_none_value>},
                                                      {"number", plain<is_number_value>},
                                                      {"odd", parity<1>},
                                                      {"sameas", same},
                                                      {"sequence", plain<is_sequence_value>},
                                                      {"string", plain<is_string_value>},
                                                      {"test", names_test},
                                                      {"true", plain<is_true>},
                                                      {"undefined", plain<is_undefined_value>},
                                                      {"upper", plain<is_upper_value>},
                                                      {"==", ordered<Order::equal>},
                                                      {"eq", ordered<Order::equal>},
                                                      {"equalto", ordered<Order::equal>},
                                                      {"!=", ordered<Order::unequal>},
                                                      {"ne", ordered<Order::unequal>},
                                                      {"<", ordered<Order::less>},
                                                      {"lt", ordered<Order::less>},
                                                      {"lessthan", ordered<Order::less>},
                                                      {"<=", ordered<Order::less_equal>},
                                                      {"le", ordered<Order::less_equal>},
                                                      {">", ordered<Order::greater>},
                                                      {"gt", ordered<Order::greater>},
                                                      {"greaterthan", ordered<Order::greater>},
                                                      {">=", ordered<Order::greater_equal>},
                                                      {"ge", ordered<Order::greater_equal>}};
  return tests;
}

}  // namespace

Test find_test(std::string_view name) {
  const auto found = all_tests().find(name);
  return found == all_tests().end() ? nullptr : found->second;
}

bool is_test(std::string_view name) { return find_test(name) != nullptr; }

}  // namespace ft::jinja
