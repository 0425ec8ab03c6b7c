#pragma once
/// What Python's values do whatever their type: truth, equality, order, length, iteration, str() and repr(). Used
/// inside engine/template only; each counts what it costs against the budget in force.

#include <string>
#include <vector>

#include "engine/template/budget.h"
#include "engine/template/datum.h"

namespace ft::jinja {

constexpr int kDeepest = 200;  ///< containers inside one another

[[noreturn]] void use_undefined(const Datum& value);  ///< raises what an undefined value raises when it is used
bool truth(const Datum& value);
bool equal(const Datum& a, const Datum& b, int depth = 0);
/// -1, 0 or 1.   @throws Fault(TypeError) naming `op` where Python knows no order
int compare(const Datum& a, const Datum& b, const char* op, int depth = 0);
bool contains(const Datum& container, const Datum& item);
int depth_of(const Datum& value);
/// type(x).__name__, and the name that jinja2 gives an object in its messages ("dict object")
std::string type_name(const Datum& value);
std::string object_name(const Datum& value);
std::string to_str(const Datum& value);   ///< str(x)
std::string to_repr(const Datum& value);  ///< repr(x)
/// len(x).   @throws Fault(TypeError)
int64_t length_of(const Datum& value);
/// list(x); an iterator is spent by it.   @throws Fault(TypeError), Fault(UndefinedError)
std::vector<Datum> iterate(const Datum& value);
bool hashable(const Datum& value);
/// Raises TypeError for a key that Python cannot hash.
void check_hashable(const Datum& value);

}  // namespace ft::jinja
