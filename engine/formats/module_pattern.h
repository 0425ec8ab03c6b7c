#pragma once
/// A regular expression for a module's or a parameter's path, in Python's and PCRE's common syntax. One thread.

#include <memory>
#include <string>

namespace ft {

class ModulePattern {
 public:
  enum class Ends { anywhere, at_end };  ///< at_end: the whole path must match, else a match at its start will do
  /// @param key the option that it comes from, for messages
  /// @throws Error(config) for a pattern that does not compile, saying at which character.
  ModulePattern(const std::string& text, Ends ends, const std::string& key);
  ~ModulePattern();
  ModulePattern(ModulePattern&& other) noexcept;
  ModulePattern& operator=(ModulePattern&& other) noexcept;

  bool match(const std::string& path) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace ft
