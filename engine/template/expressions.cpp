// The parser's expressions: jinja2's grammar, rule by rule (jinja2/parser.py).
#include <algorithm>

#include "engine/template/parser.h"
#include "engine/template/protocols.h"

namespace ft::jinja {

using Is = Node::Is;

NodePtr Parser::binary(const std::string& op, NodePtr left, NodePtr right) const {
  NodePtr node = std::make_unique<Node>(Is::binary, left->line);
  node->text = op;
  node->kids.push_back(std::move(left));
  node->kids.push_back(std::move(right));
  return node;
}

NodePtr Parser::tuple(bool with_condition, std::string_view end, bool parenthesised, bool primaries,
                      bool with_namespace) {
  NodePtr node = make(Is::tuple);
  bool is_tuple = false;
  while (true) {
    if (!node->kids.empty()) want_sign(",");
    if (now().is == Token::Is::variable_end || now().is == Token::Is::block_end || now().sign(")") ||
        (!end.empty() && now().name(end)))
      break;
    node->kids.push_back(primaries ? primary(with_namespace) : expression(with_condition));
    if (!now().sign(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return node;
  if (!node->kids.empty()) return std::move(node->kids[0]);
  if (!parenthesised) fail("Expected an expression, got '" + describe(now()) + "'");
  return node;
}

namespace {

/// How deeply a tree nests; what is measured already is not walked again.
int height_of(Node& node) {
  if (node.height > 0) return node.height;
  int most = 0;
  const auto look = [&](const NodePtr& kid) {
    if (kid) most = std::max(most, height_of(*kid));
  };
  for (const NodePtr& kid : node.kids) look(kid);
  for (const NodePtr& kid : node.arguments.plain) look(kid);
  for (const auto& [name, kid] : node.arguments.named) look(kid);
  look(node.arguments.list);
  look(node.arguments.map);
  return node.height = most + 1;
}

}  // namespace

NodePtr Parser::expression(bool with_condition) {
  constexpr int kMost = 300, kHighest = 1000;
  if (++depth_ > kMost) raise("RecursionError", "a template nested deeper than " + std::to_string(kMost));
  NodePtr node = with_condition ? condition() : or_();
  --depth_;
  if (height_of(*node) > kHighest)
    raise("RecursionError", "an expression nested deeper than " + std::to_string(kHighest));
  return node;
}

NodePtr Parser::condition() {
  NodePtr node = or_();
  int links = 0;
  while (skip_name("if")) {
    if (++links > 100) raise("RecursionError", "conditions nested deeper than 100");
    NodePtr outer = make(Is::condition);
    outer->kids.push_back(or_());
    outer->kids.push_back(std::move(node));
    outer->kids.push_back(skip_name("else") ? expression() : nullptr);
    node = std::move(outer);
  }
  return node;
}

namespace {

/// Left-leaning chains ("a + b + c …") nest as deeply as they are long; the evaluator walks them by recursion.
void check_chain(int links) {
  constexpr int kMost = 900;
  if (links > kMost) raise("RecursionError", "an expression of more than " + std::to_string(kMost) + " operands");
}

}  // namespace

NodePtr Parser::or_() {
  NodePtr left = and_();
  for (int links = 0; skip_name("or"); check_chain(++links)) left = binary("or", std::move(left), and_());
  return left;
}

NodePtr Parser::and_() {
  NodePtr left = not_();
  for (int links = 0; skip_name("and"); check_chain(++links)) left = binary("and", std::move(left), not_());
  return left;
}

NodePtr Parser::not_() {
  int nots = 0;
  NodePtr outermost;
  Node* inner = nullptr;
  while (now().name("not")) {
    check_chain(++nots);
    NodePtr node = make(Is::unary);
    node->text = "not";
    take();
    Node* raw = node.get();
    if (inner)
      inner->kids.push_back(std::move(node));
    else
      outermost = std::move(node);
    inner = raw;
  }
  NodePtr operand = comparison();
  if (!inner) return operand;
  inner->kids.push_back(std::move(operand));
  return outermost;
}

NodePtr Parser::comparison() {
  static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
  NodePtr first = sum(), node = make(Is::compare);
  while (true) {
    if (now().is == Token::Is::sign &&
        std::find(std::begin(kOperators), std::end(kOperators), now().text) != std::end(kOperators)) {
      node->operators.push_back(take().text);
    } else if (skip_name("in")) {
      node->operators.emplace_back("in");
    } else if (now().name("not") && ahead().name("in")) {
      take();
      take();
      node->operators.emplace_back("not in");
    } else {
      break;
    }
    node->kids.push_back(sum());
  }
  if (node->operators.empty()) return first;
  node->kids.insert(node->kids.begin(), std::move(first));
  return node;
}

NodePtr Parser::sum() {
  NodePtr left = concat();
  for (int links = 0; now().sign("+") || now().sign("-"); check_chain(++links)) {
    const std::string op = take().text;
    left = binary(op, std::move(left), concat());
  }
  return left;
}

NodePtr Parser::concat() {
  NodePtr first = product();
  if (!now().sign("~")) return first;
  NodePtr node = make(Is::concat);
  node->kids.push_back(std::move(first));
  while (skip_sign("~")) node->kids.push_back(product());
  return node;
}

NodePtr Parser::product() {
  NodePtr left = power();
  for (int links = 0; now().sign("*") || now().sign("/") || now().sign("//") || now().sign("%"); check_chain(++links)) {
    const std::string op = take().text;
    left = binary(op, std::move(left), power());
  }
  return left;
}

NodePtr Parser::power() {
  NodePtr left = unary();
  for (int links = 0; skip_sign("**"); check_chain(++links)) left = binary("**", std::move(left), unary());
  return left;
}

NodePtr Parser::unary(bool with_filter) {
  NodePtr node;
  if (now().sign("-") || now().sign("+")) {
    constexpr int kMost = 300;
    if (++depth_ > kMost) raise("RecursionError", "a template nested deeper than " + std::to_string(kMost));
    node = make(Is::unary);
    node->text = take().text;
    node->kids.push_back(unary(false));
    --depth_;
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filter ? filters(std::move(node)) : std::move(node);
}

NodePtr Parser::named(bool with_namespace) {
  NodePtr node = make(Is::name);
  node->text = take().text;
  const std::string& name = node->text;
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    node->is = Is::constant;
    node->value = Datum::boolean(name[0] == 't' || name[0] == 'T');
  } else if (name == "none" || name == "None") {
    node->is = Is::constant;
    node->value = Datum::none();
  } else if (with_namespace && skip_sign(".")) {
    node->is = Is::attribute_target;
    node->kids.push_back(make(Is::name));
    node->kids[0]->text = want_name();
  }
  return node;
}

NodePtr Parser::primary(bool with_namespace) {
  if (now().is == Token::Is::name) return named(with_namespace);
  if (now().is == Token::Is::string) {
    NodePtr node = make(Is::constant);
    std::string text = take().text;
    while (now().is == Token::Is::string) text += take().text;
    node->value = Datum::string(std::move(text));
    length_of(node->value);  // known from now on: threads share the tree, and none shall write to it
    return node;
  }
  if (now().is == Token::Is::integer || now().is == Token::Is::number) {
    NodePtr node = make(Is::constant);
    node->value = take().value;
    return node;
  }
  if (skip_sign("(")) {
    NodePtr node = tuple(true, "", true);
    want_sign(")");
    return node;
  }
  if (now().sign("[")) return list();
  if (now().sign("{")) return dict();
  fail("unexpected '" + describe(now()) + "'");
}

NodePtr Parser::list() {
  NodePtr node = make(Is::list);
  take();
  while (!now().sign("]")) {
    if (!node->kids.empty()) want_sign(",");
    if (now().sign("]")) break;
    node->kids.push_back(expression());
  }
  want_sign("]");
  return node;
}

NodePtr Parser::dict() {
  NodePtr node = make(Is::dict);
  take();
  while (!now().sign("}")) {
    if (!node->kids.empty()) want_sign(",");
    if (now().sign("}")) break;
    node->kids.push_back(expression());
    want_sign(":");
    node->kids.push_back(expression());
  }
  want_sign("}");
  return node;
}

NodePtr Parser::postfix(NodePtr node) {
  for (int links = 0;; check_chain(++links)) {
    if (now().sign(".") || now().sign("["))
      node = subscript(std::move(node));
    else if (now().sign("("))
      node = call(std::move(node));
    else
      return node;
  }
}

NodePtr Parser::filters(NodePtr node) {
  for (int links = 0;; check_chain(++links)) {
    if (now().sign("|"))
      node = filter(std::move(node));
    else if (now().name("is"))
      node = test(std::move(node));
    else if (now().sign("("))
      node = call(std::move(node));
    else
      return node;
  }
}

NodePtr Parser::subscript(NodePtr node) {
  NodePtr outer = make(Is::item);
  if (take().text == ".") {
    const Token attribute = take();
    if (attribute.is == Token::Is::name) {
      outer->is = Is::attribute;
      outer->text = attribute.text;
      outer->kids.push_back(std::move(node));
      return outer;
    }
    if (attribute.is != Token::Is::integer) fail("expected name or number");
    outer->kids.push_back(std::move(node));
    outer->kids.push_back(make(Is::constant));
    outer->kids[1]->value = attribute.value;
    return outer;
  }
  NodePtr places = make(Is::tuple);
  while (!now().sign("]")) {
    if (!places->kids.empty()) want_sign(",");
    places->kids.push_back(subscribed());
  }
  want_sign("]");
  outer->kids.push_back(std::move(node));
  outer->kids.push_back(places->kids.size() == 1 ? std::move(places->kids[0]) : std::move(places));
  return outer;
}

NodePtr Parser::subscribed() {
  NodePtr node = make(Is::slice);
  if (now().sign(":")) {
    node->kids.push_back(nullptr);
  } else {
    NodePtr first = expression();
    if (!now().sign(":")) return first;
    node->kids.push_back(std::move(first));
  }
  take();
  const auto ends = [&] { return now().sign("]") || now().sign(","); };
  node->kids.push_back(now().sign(":") || ends() ? nullptr : expression());
  node->kids.push_back(skip_sign(":") && !ends() ? expression() : nullptr);
  return node;
}

void Parser::arguments(Node::Arguments& out) {
  const auto ensure = [&](bool right) {
    if (!right) fail("invalid syntax for function call expression");
  };
  want_sign("(");
  bool first = true;
  while (!now().sign(")")) {
    if (!first) {
      want_sign(",");
      if (now().sign(")")) break;
    }
    first = false;
    if (skip_sign("*")) {
      ensure(!out.list && !out.map);
      out.list = expression();
    } else if (skip_sign("**")) {
      ensure(!out.map);
      out.map = expression();
    } else if (now().is == Token::Is::name && ahead().sign("=")) {
      ensure(!out.map);
      std::string name = take().text;
      take();
      out.named.emplace_back(std::move(name), expression());
    } else {
      ensure(!out.list && !out.map && out.named.empty());
      out.plain.push_back(expression());
    }
  }
  want_sign(")");
}

NodePtr Parser::call(NodePtr node) {
  NodePtr outer = make(Is::call);
  arguments(outer->arguments);
  outer->kids.push_back(std::move(node));
  return outer;
}

std::string Parser::dotted_name() {
  std::string name = want_name();
  while (skip_sign(".")) name += "." + want_name();
  return name;
}

NodePtr Parser::filter(NodePtr node, bool inline_first) {
  for (int links = 0; now().sign("|") || inline_first; check_chain(++links)) {
    if (!inline_first) take();
    inline_first = false;
    NodePtr outer = make(Is::filter);
    outer->text = dotted_name();
    if (now().sign("(")) arguments(outer->arguments);
    outer->kids.push_back(std::move(node));
    node = std::move(outer);
  }
  return node;
}

NodePtr Parser::test(NodePtr node) {
  take();  // "is"
  const bool negated = skip_name("not");
  NodePtr outer = make(Is::test);
  outer->text = dotted_name();
  const Token& next = now();
  const bool operand = next.is == Token::Is::string || next.is == Token::Is::integer || next.is == Token::Is::number ||
                       next.sign("[") || next.sign("{") ||
                       (next.is == Token::Is::name && !next.name("else") && !next.name("or") && !next.name("and"));
  if (next.sign("(")) {
    arguments(outer->arguments);
  } else if (operand) {
    if (next.name("is")) fail("You cannot chain multiple tests with is");
    outer->arguments.plain.push_back(postfix(primary()));
  }
  outer->kids.push_back(std::move(node));
  if (!negated) return outer;
  NodePtr negation = make(Is::unary);
  negation->text = "not";
  negation->kids.push_back(std::move(outer));
  return negation;
}

}  // namespace ft::jinja
