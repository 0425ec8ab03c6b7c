#include "engine/template/budget.h"

#include <utility>

namespace ft::jinja {

void raise(const char* type, std::string message) { throw Fault{type, std::move(message)}; }
void type_error(std::string message) { raise("TypeError", std::move(message)); }

namespace {
thread_local Budget* budget = nullptr;
}

BudgetScope::BudgetScope(Budget& of_this) : outer_(std::exchange(budget, &of_this)) {}
BudgetScope::~BudgetScope() { budget = outer_; }

void spend_steps(int64_t count) {
  if (budget && (budget->steps -= count) < 0) raise("TimeoutError", "the template takes more steps than it may");
}

void spend_bytes(int64_t count) {
  if (budget && (budget->bytes -= count) < 0) raise("MemoryError", "the template makes more text than it may");
}

void spend_product(int64_t times, int64_t size) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(times, size, &bytes)) raise("MemoryError", "the template makes more text than it may");
  if (bytes > 0) spend_bytes(bytes);
}

}  // namespace ft::jinja
