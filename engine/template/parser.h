#pragma once
/// The parser behind parse(): statements in parser.cpp, expressions in expressions.cpp. One use, one thread.

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "engine/template/budget.h"
#include "engine/template/syntax.h"

namespace ft::jinja {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  std::vector<NodePtr> run();

 private:
  using Names = std::initializer_list<std::string_view>;
  struct Deeper;

  std::vector<NodePtr> statements(Names ends);
  std::vector<NodePtr> block(Names ends);
  NodePtr statement();
  NodePtr if_statement();
  NodePtr for_statement();
  NodePtr set_statement();
  NodePtr macro();
  NodePtr call_block();
  NodePtr with_statement();
  NodePtr print_statement();
  void signature(Node& node);
  NodePtr target(bool names_only, bool with_namespace, std::string_view end);
  void check_target(const Node& node);

  NodePtr tuple(bool with_condition, std::string_view end, bool parenthesised, bool primaries = false,
                bool with_namespace = false);
  NodePtr expression(bool with_condition = true);
  NodePtr condition();
  NodePtr or_();
  NodePtr and_();
  NodePtr not_();
  NodePtr comparison();
  NodePtr sum();
  NodePtr concat();
  NodePtr product();
  NodePtr power();
  NodePtr unary(bool with_filter = true);
  NodePtr primary(bool with_namespace = false);
  NodePtr named(bool with_namespace);
  NodePtr list();
  NodePtr dict();
  NodePtr postfix(NodePtr node);
  NodePtr filters(NodePtr node);
  NodePtr subscript(NodePtr node);
  NodePtr subscribed();
  NodePtr call(NodePtr node);
  NodePtr filter(NodePtr node, bool inline_first = false);
  NodePtr test(NodePtr node);
  void arguments(Node::Arguments& out);
  std::string dotted_name();

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take();
  bool skip_name(std::string_view name);
  bool skip_sign(std::string_view sign);
  void want_sign(std::string_view sign);
  std::string want_name();
  void want_end_of(Token::Is is);
  NodePtr make(Node::Is is) const { return std::make_unique<Node>(is, now().line); }
  NodePtr binary(const std::string& op, NodePtr left, NodePtr right) const;
  [[noreturn]] void fail(std::string message) const;
  static std::string describe(const Token& token);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0, loops_ = 0;
};

}  // namespace ft::jinja
