#pragma once
/// How a rendering fails, and what it may cost. Used inside engine/template only. The budget belongs to the thread that
/// renders; where none is in force (a template is being parsed), nothing is counted.

#include <cstdint>
#include <string>

namespace ft::jinja {

/// An exception as Python would raise it: the name of its class, and its text.
struct Fault {
  std::string type, message;
};
[[noreturn]] void raise(const char* type, std::string message);
[[noreturn]] void type_error(std::string message);

/// What one rendering may cost, in steps of evaluation and in bytes made; counted down for the thread it runs on.
struct Budget {
  int64_t steps, bytes;
};
/// Puts a budget in force on this thread while it lives.
class BudgetScope {
 public:
  explicit BudgetScope(Budget& budget);
  ~BudgetScope();
  BudgetScope(const BudgetScope&) = delete;
  BudgetScope& operator=(const BudgetScope&) = delete;

 private:
  Budget* outer_;
};
/// Raises MemoryError or TimeoutError once the budget is spent. Whatever may grow is announced before it is made.
void spend_steps(int64_t count);
void spend_bytes(int64_t count);
/// The size of `times` pieces of `size` bytes, spent.
void spend_product(int64_t times, int64_t size);

}  // namespace ft::jinja
