#pragma once
/// Makes text of tokens: tokenizer.json's `decoder`, as a chain over the list of tokens. Used inside engine/text only;
/// const calls may come from many threads.

#include <functional>
#include <string>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

class Decoder {
 public:
  using Tokens = std::vector<std::string>;

  /// @param tree tokenizer.json's `decoder`; null joins the tokens by spaces
  /// @throws Error(format) naming the part that is not implemented
  explicit Decoder(const Value& tree);

  std::string decode(Tokens tokens) const;

 private:
  void add(const Value& tree);

  std::vector<std::function<void(Tokens&)>> steps_;
  bool by_spaces_ = false;
};

}  // namespace ft
