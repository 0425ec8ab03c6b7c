#include "engine/template/parser.h"

#include <algorithm>

namespace ft::jinja {

using Is = Node::Is;

/// Nesting of statements and expressions, bounded for the stack's sake.
struct Parser::Deeper {
  explicit Deeper(Parser& p) : parser(p) {
    constexpr int kMost = 300;
    if (++parser.depth_ > kMost) {
      --parser.depth_;
      raise("RecursionError", "a template nested deeper than " + std::to_string(kMost));
    }
  }
  ~Deeper() { --parser.depth_; }
  Parser& parser;
};

void Parser::fail(std::string message) const { raise("TemplateSyntaxError", std::move(message)); }

std::string Parser::describe(const Token& token) {
  switch (token.is) {
    case Token::Is::data:
      return "template data / text";
    case Token::Is::variable_begin:
      return "begin of print statement";
    case Token::Is::variable_end:
      return "end of print statement";
    case Token::Is::block_begin:
      return "begin of statement block";
    case Token::Is::block_end:
      return "end of statement block";
    case Token::Is::end:
      return "end of template";
    default:
      return token.text;
  }
}

Token Parser::take() {
  Token token = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool Parser::skip_name(std::string_view name) {
  if (!now().name(name)) return false;
  take();
  return true;
}

bool Parser::skip_sign(std::string_view sign) {
  if (!now().sign(sign)) return false;
  take();
  return true;
}

void Parser::want_sign(std::string_view sign) {
  if (skip_sign(sign)) return;
  if (now().is == Token::Is::end) fail("unexpected end of template, expected '" + std::string(sign) + "'.");
  fail("expected token '" + std::string(sign) + "', got '" + describe(now()) + "'");
}

std::string Parser::want_name() {
  if (now().is != Token::Is::name) fail("expected token 'name', got '" + describe(now()) + "'");
  return take().text;
}

void Parser::want_end_of(Token::Is is) {
  if (now().is != is) {
    const Token wanted{is, 0, "", {}};
    if (now().is == Token::Is::end) fail("unexpected end of template, expected '" + describe(wanted) + "'.");
    fail("expected token '" + describe(wanted) + "', got '" + describe(now()) + "'");
  }
  take();
}

std::vector<NodePtr> Parser::run() {
  std::vector<NodePtr> body = statements({});
  return body;
}

/// Statements and text up to a tag that `ends` names, which stays to be read; without `ends`, up to the end.
std::vector<NodePtr> Parser::statements(Names ends) {
  const Deeper deeper(*this);
  std::vector<NodePtr> body;
  while (now().is != Token::Is::end) {
    if (now().is == Token::Is::data) {
      NodePtr node = make(Is::data);
      node->text = take().text;
      body.push_back(std::move(node));
    } else if (now().is == Token::Is::variable_begin) {
      NodePtr node = make(Is::output);
      take();
      node->kids.push_back(tuple(true, "", false));
      want_end_of(Token::Is::variable_end);
      body.push_back(std::move(node));
    } else {
      take();  // block_begin
      if (std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return now().name(end); })) return body;
      body.push_back(statement());
      want_end_of(Token::Is::block_end);
    }
  }
  if (ends.size() > 0) fail("Unexpected end of template. Jinja was looking for the end of a block.");
  return body;
}

/// The rest of a tag, and what stands up to the tag that ends it.
std::vector<NodePtr> Parser::block(Names ends) {
  skip_sign(":");
  want_end_of(Token::Is::block_end);
  return statements(ends);
}

NodePtr Parser::statement() {
  if (now().is != Token::Is::name) fail("tag name expected");
  const std::string tag = now().text;
  if (tag == "if") return if_statement();
  if (tag == "for") return for_statement();
  if (tag == "set") return set_statement();
  if (tag == "macro") return macro();
  if (tag == "call") return call_block();
  if (tag == "with") return with_statement();
  if (tag == "print") return print_statement();
  if (tag == "filter") {
    NodePtr node = make(Is::filter_block);
    take();
    node->kids.push_back(filter(nullptr, true));
    node->body = block({"endfilter"});
    take();
    return node;
  }
  if (tag == "generation") {
    NodePtr node = make(Is::generation);
    take();
    const int loops = std::exchange(loops_, 0);
    node->body = block({"endgeneration"});
    loops_ = loops;
    take();
    return node;
  }
  if (tag == "break" || tag == "continue") {
    NodePtr node = make(tag == "break" ? Is::break_ : Is::continue_);
    take();
    node->flag = loops_ == 0;  // Python says so, once all of the template is parsed
    return node;
  }
  static constexpr std::string_view kLacking[] = {"block", "extends", "include", "import", "from", "autoescape"};
  if (std::find(std::begin(kLacking), std::end(kLacking), tag) != std::end(kLacking))
    fail("tag '" + tag + "' is not supported in chat templates by this engine");
  fail("Encountered unknown tag '" + tag + "'.");
}

NodePtr Parser::if_statement() {
  NodePtr first = make(Is::if_);
  take();
  Node* node = first.get();
  while (true) {
    node->kids.push_back(tuple(false, "", false));
    node->body = block({"elif", "else", "endif"});
    const std::string end = take().text;
    if (end == "elif") {
      node->otherwise.push_back(make(Is::if_));
      node = node->otherwise.back().get();
      continue;
    }
    if (end == "else") {
      node->otherwise = block({"endif"});
      take();
    }
    return first;
  }
}

NodePtr Parser::for_statement() {
  NodePtr node = make(Is::for_);
  take();
  node->kids.push_back(target(false, false, "in"));
  if (!skip_name("in")) fail("expected token 'in', got '" + describe(now()) + "'");
  node->kids.push_back(tuple(false, "recursive", false));
  node->kids.push_back(skip_name("if") ? expression() : nullptr);
  node->flag = skip_name("recursive");
  ++loops_;
  node->body = block({"endfor", "else"});
  --loops_;
  if (take().text == "else") {
    node->otherwise = block({"endfor"});
    take();
  }
  return node;
}

NodePtr Parser::set_statement() {
  NodePtr node = make(Is::set);
  take();
  node->kids.push_back(target(false, true, ""));
  if (skip_sign("=")) {
    node->kids.push_back(tuple(true, "", false));
    return node;
  }
  node->is = Is::set_block;
  node->kids.push_back(filter(nullptr));
  const int loops = std::exchange(loops_, 0);
  node->body = block({"endset"});
  loops_ = loops;
  take();
  return node;
}

void Parser::signature(Node& node) {
  want_sign("(");
  while (!now().sign(")")) {
    if (!node.parameters.empty()) want_sign(",");
    std::string name = target(true, false, "")->text;
    NodePtr otherwise;
    if (skip_sign("="))
      otherwise = expression();
    else if (!node.parameters.empty() && node.parameters.back().second)
      fail("non-default argument follows default argument");
    node.parameters.emplace_back(std::move(name), std::move(otherwise));
  }
  want_sign(")");
}

NodePtr Parser::macro() {
  NodePtr node = make(Is::macro);
  take();
  node->text = target(true, false, "")->text;
  signature(*node);
  const int loops = std::exchange(loops_, 0);
  node->body = block({"endmacro"});
  loops_ = loops;
  take();
  return node;
}

NodePtr Parser::call_block() {
  NodePtr node = make(Is::call_block);
  take();
  if (now().sign("(")) signature(*node);
  NodePtr called = expression();
  if (called->is != Is::call) fail("expected call");
  node->kids.push_back(std::move(called));
  const int loops = std::exchange(loops_, 0);
  node->body = block({"endcall"});
  loops_ = loops;
  take();
  return node;
}

NodePtr Parser::with_statement() {
  NodePtr node = make(Is::with);
  take();
  while (now().is != Token::Is::block_end && now().is != Token::Is::end) {
    if (!node->parameters.empty()) want_sign(",");
    std::string name = target(true, false, "")->text;
    want_sign("=");
    node->parameters.emplace_back(std::move(name), expression());
  }
  node->body = block({"endwith"});
  take();
  return node;
}

NodePtr Parser::print_statement() {
  NodePtr node = make(Is::output);
  take();
  while (now().is != Token::Is::block_end && now().is != Token::Is::end) {
    if (!node->kids.empty()) want_sign(",");
    node->kids.push_back(expression());
  }
  return node;
}

void Parser::check_target(const Node& node) {
  if (node.is == Is::tuple) {
    for (const NodePtr& kid : node.kids) check_target(*kid);
    return;
  }
  static constexpr std::string_view kReserved[] = {"true", "false", "none", "True", "False", "None"};
  if (node.is == Is::attribute_target) return;
  if (node.is != Is::name || std::find(std::begin(kReserved), std::end(kReserved), node.text) != std::end(kReserved))
    fail(node.is == Is::constant ? "can't assign to 'const'" : "can't assign to an expression");
}

NodePtr Parser::target(bool names_only, bool with_namespace, std::string_view end) {
  NodePtr node;
  if (names_only) {
    node = make(Is::name);
    node->text = want_name();
  } else {
    node = tuple(true, end, false, true, with_namespace);
  }
  check_target(*node);
  return node;
}

namespace {

/// Filters and tests must exist, but where they stand under an `if`, which may never be reached (jinja2's soft frames).
void check_names(const Node& node, bool soft);

void check_all(const std::vector<NodePtr>& nodes, bool soft) {
  for (const NodePtr& node : nodes)
    if (node) check_names(*node, soft);
}

bool names_loop(const Node& target) {
  if (target.is == Is::name) return target.text == "loop";
  return target.is != Is::attribute_target && std::any_of(target.kids.begin(), target.kids.end(),
                                                          [](const NodePtr& kid) { return kid && names_loop(*kid); });
}

bool assigns_loop(const Node& node) {
  const bool assigns = node.is == Is::for_ || node.is == Is::set || node.is == Is::set_block;
  if (assigns && names_loop(*node.kids[0])) return true;
  const auto any = [](const std::vector<NodePtr>& nodes) {
    return std::any_of(nodes.begin(), nodes.end(), [](const NodePtr& kid) { return kid && assigns_loop(*kid); });
  };
  return any(node.body) || any(node.otherwise);
}

void check_names(const Node& node, bool soft) {
  if (node.is == Is::for_ && assigns_loop(node))
    raise("TemplateAssertionError", "Can't assign to special loop variable in for-loop target");
  if (!soft && ((node.is == Is::filter && !is_filter(node.text)) || (node.is == Is::test && !is_test(node.text))))
    raise("TemplateAssertionError",
          std::string("No ") + (node.is == Is::filter ? "filter" : "test") + " named '" + node.text + "'.");
  const bool scope = node.is == Is::for_ || node.is == Is::macro || node.is == Is::call_block ||
                     node.is == Is::set_block || node.is == Is::filter_block || node.is == Is::generation ||
                     node.is == Is::with;
  const bool inside = scope ? false : soft || node.is == Is::if_ || node.is == Is::condition;
  check_all(node.kids, node.is == Is::for_ ? soft : inside);
  check_all(node.body, inside);
  check_all(node.otherwise, inside);
  check_all(node.arguments.plain, inside);
  for (const auto& [name, value] : node.arguments.named) check_names(*value, inside);
  if (node.arguments.list) check_names(*node.arguments.list, inside);
  if (node.arguments.map) check_names(*node.arguments.map, inside);
  for (const auto& [name, value] : node.parameters)
    if (value) check_names(*value, node.is == Is::with ? soft : inside);
}

/// Which of the names that a macro is given unasked its body uses.
void find_special_names(const Node& node, Node& macro) {
  if (node.is == Is::name) {
    macro.uses_caller |= node.text == "caller";
    macro.uses_kwargs |= node.text == "kwargs";
    macro.uses_varargs |= node.text == "varargs";
  }
  const auto all = [&](const std::vector<NodePtr>& nodes) {
    for (const NodePtr& kid : nodes)
      if (kid) find_special_names(*kid, macro);
  };
  all(node.kids);
  all(node.body);
  all(node.otherwise);
  all(node.arguments.plain);
  for (const auto& [name, value] : node.arguments.named) find_special_names(*value, macro);
  if (node.arguments.list) find_special_names(*node.arguments.list, macro);
  if (node.arguments.map) find_special_names(*node.arguments.map, macro);
}

void mark_macros(const std::vector<NodePtr>& nodes) {
  for (const NodePtr& node : nodes) {
    if (!node) continue;
    if (node->is == Is::macro || node->is == Is::call_block)
      for (const NodePtr& statement : node->body) find_special_names(*statement, *node);
    mark_macros(node->body);
    mark_macros(node->otherwise);
  }
}

void check_flow(const std::vector<NodePtr>& nodes) {
  for (const NodePtr& node : nodes) {
    if (node->flag && (node->is == Is::break_ || node->is == Is::continue_))
      raise("SyntaxError", std::string(node->is == Is::break_ ? "'break'" : "'continue'") + " outside loop");
    check_flow(node->body);
    check_flow(node->otherwise);
  }
}

}  // namespace

std::vector<NodePtr> parse(std::string_view source) {
  std::vector<NodePtr> body = Parser(lex(source)).run();
  check_all(body, false);
  check_flow(body);
  mark_macros(body);
  return body;
}

}  // namespace ft::jinja
