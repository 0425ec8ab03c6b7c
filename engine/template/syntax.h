#pragma once
/// A template as a tree, and the parser that makes it. Used inside engine/template only; a tree is never changed once
/// it is parsed, and may be evaluated by several threads at once.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/template/datum.h"

namespace ft::jinja {

struct Node;
using NodePtr = std::unique_ptr<Node>;

struct Node {
  enum class Is : uint8_t {
    // statements; `kids` are expressions, `body` and `otherwise` statements
    output,        // kids
    data,          // text
    if_,           // kids[0]; body; otherwise
    for_,          // kids: target, what, filter or null; body; otherwise; flag: recursive
    set,           // kids: target, value
    set_block,     // kids: target, filter or null; body
    macro,         // text; parameters; body
    call_block,    // parameters; kids[0] the call; body
    filter_block,  // kids[0]; body
    generation,    // body
    with,          // parameters; body
    break_,
    continue_,
    // expressions
    constant,          // value
    name,              // text
    attribute_target,  // text . kids[0]->text, of a namespace
    tuple,
    list,
    dict,       // kids: key, value, key, value, …
    attribute,  // kids[0] . text
    item,       // kids[0] [ kids[1] ]
    slice,      // kids: start, stop, step; each may be null
    call,       // kids[0]; arguments
    filter,     // text; kids[0] or null (of a block); arguments
    test,       // text; kids[0]; arguments
    unary,      // text: "not", "-", "+"
    binary,     // text: "and", "or", "+", …
    concat,
    compare,    // kids[0]; then each operator (text of `operators`) with its operand
    condition,  // kids: test, then, otherwise or null
  };
  struct Arguments {
    std::vector<NodePtr> plain;
    std::vector<std::pair<std::string, NodePtr>> named;
    NodePtr list, map;  ///< *list, **map
  };

  Node(Is what, int at) : is(what), line(at) {}
  Is is;
  int line;
  int height = 0;  ///< of an expression: how deeply its evaluation nests
  bool flag = false;
  std::string text;
  Datum value;
  std::vector<NodePtr> kids, body, otherwise;
  std::vector<std::string> operators;
  std::vector<std::pair<std::string, NodePtr>> parameters;  ///< with their defaults
  Arguments arguments;
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;  ///< of a macro's body
};

struct Token {
  enum class Is : uint8_t {
    data,
    variable_begin,
    variable_end,
    block_begin,
    block_end,
    name,
    string,
    integer,
    number,
    sign,
    end
  };
  Is is;
  int line;
  std::string text;  ///< of a string, what it says
  Datum value;       ///< of a number
  bool sign(std::string_view s) const { return is == Is::sign && text == s; }
  bool name(std::string_view s) const { return is == Is::name && text == s; }
};

/// The tokens of a template, white space handled as jinja2 does under trim_blocks and lstrip_blocks.
/// @throws Fault(TemplateSyntaxError)
std::vector<Token> lex(std::string_view source);

/// @throws Fault(TemplateSyntaxError), Fault(TemplateAssertionError) for a filter or test that there is none of
std::vector<NodePtr> parse(std::string_view source);

bool is_filter(std::string_view name);
bool is_test(std::string_view name);

}  // namespace ft::jinja
