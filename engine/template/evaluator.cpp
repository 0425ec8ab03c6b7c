#include "engine/template/evaluator.h"

#include <algorithm>

#include "engine/template/python_text.h"

namespace ft::jinja {

using Is = Node::Is;

/// Runs in a scope of its own.
class Evaluator::Enter {
 public:
  Enter(Evaluator& evaluator, ScopePtr scope) : evaluator_(evaluator), before_(std::move(evaluator.scope_)) {
    evaluator.scope_ = std::move(scope);
  }
  ~Enter() { evaluator_.scope_ = std::move(before_); }
  Enter(const Enter&) = delete;
  Enter& operator=(const Enter&) = delete;

 private:
  Evaluator& evaluator_;
  ScopePtr before_;
};

/// One more level of statements or calls.
class Evaluator::Frame {
 public:
  explicit Frame(Evaluator& evaluator) : evaluator_(evaluator) {
    constexpr int kMost = 1500;  // of nested nodes: one or two megabytes of stack
    spend_steps(1);
    if (evaluator_.depth_ >= kMost) raise("RecursionError", "maximum recursion depth exceeded");
    ++evaluator_.depth_;
  }
  ~Frame() { --evaluator_.depth_; }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

 private:
  Evaluator& evaluator_;
};

Evaluator::Evaluator(std::vector<std::pair<std::string, Datum>> variables, const std::vector<Datum>& messages,
                     std::string now)
    : scope_(std::make_shared<Scope>()), now_(std::move(now)) {
  for (auto& [name, value] : global_functions()) context_.insert_or_assign(name, std::move(value));
  for (auto& [name, value] : variables) context_.insert_or_assign(name, std::move(value));
  context_.insert_or_assign("self",
                            Datum::function("self", nullptr, "TemplateReference"));  // whose blocks there are none
  for (size_t i = 0; i < messages.size(); ++i) messages_.emplace(messages[i].identity(), static_cast<int>(i));
}

Evaluator::~Evaluator() {
  for (const ScopePtr& scope : captured_scopes_) scope->values.clear();
  for (const auto& space : spaces_) static_cast<DictObject*>(space.get())->items.clear();
}

void Evaluator::render(const std::vector<NodePtr>& body) {
  run(body);
  for (const auto& [place, made] : kept_generations_)
    generations_exact &= place <= text.size() && text.compare(place, made.size(), made) == 0;
}

int Evaluator::message_of(const Datum& value) const {
  if (!value.is(Kind::dict)) return -1;
  const auto found = messages_.find(value.identity());
  return found == messages_.end() ? -1 : found->second;
}

void Evaluator::emit(std::string_view piece) {
  if (piece.empty()) return;
  spend_bytes(static_cast<int64_t>(piece.size()));
  if (out_ == &text) {
    if (pieces.empty() || pieces.back().message != message_) pieces.push_back({message_, text.size(), text.size()});
    pieces.back().end += piece.size();
  }
  *out_ += piece;
}

std::string Evaluator::captured(const std::vector<NodePtr>& body, ScopePtr scope) {
  std::string buffer;
  std::string* const before = std::exchange(out_, &buffer);
  const Enter enter(*this, std::move(scope));
  try {
    run(body);
  } catch (...) {
    out_ = before;
    throw;
  }
  out_ = before;
  return buffer;
}

Evaluator::Flow Evaluator::run(const std::vector<NodePtr>& body) {
  for (const NodePtr& node : body)
    if (const Flow flow = run(*node); flow != Flow::normal) return flow;
  return Flow::normal;
}

Evaluator::Flow Evaluator::run(const Node& node) {
  const Frame frame(*this);
  line = node.line;
  switch (node.is) {
    case Is::data:
      emit(node.text);
      break;
    case Is::output:
      for (const NodePtr& kid : node.kids) {
        const Datum value = eval(*kid);
        if (value.is_string())
          emit(value.str());
        else
          emit(to_str(value));
      }
      break;
    case Is::if_:
      return run(truth(eval(*node.kids[0])) ? node.body : node.otherwise);
    case Is::for_:
      return run_for(node, eval(*node.kids[1]), 0);
    case Is::set:
      run_set(node);
      break;
    case Is::set_block: {
      Datum value = Datum::string(captured(node.body, std::make_shared<Scope>(Scope{scope_, {}})));
      if (node.kids[1]) value = eval_filter(*node.kids[1], &value);
      assign(*node.kids[0], value);
      break;
    }
    case Is::macro:
      store(node.text, macro(node));
      break;
    case Is::call_block:
      run_call_block(node);
      break;
    case Is::filter_block: {
      const Datum value = Datum::string(captured(node.body, std::make_shared<Scope>(Scope{scope_, {}})));
      const Datum made = eval_filter(*node.kids[0], &value);
      if (!made.is_string())  // jinja2 joins what a template yields, and this without a str() around it
        type_error("sequence item 0: expected str instance, " + type_name(made) + " found");
      emit(made.str());
      break;
    }
    case Is::generation:
      run_generation(node);
      break;
    case Is::with: {
      auto scope = std::make_shared<Scope>(Scope{scope_, {}});
      for (const auto& [name, value] : node.parameters) scope->values.emplace_back(&name, eval(*value));
      const Enter enter(*this, std::move(scope));
      return run(node.body);
    }
    case Is::break_:
      return Flow::break_;
    case Is::continue_:
      return Flow::continue_;
    default:
      raise("TemplateRuntimeError", "an expression where a statement belongs");
  }
  return Flow::normal;
}

/// What an assignment to an attribute checks before the value is computed.
void Evaluator::check_target(const Node& target) {
  if (target.is == Is::name) return;
  if (target.is != Is::attribute_target) {
    for (const NodePtr& kid : target.kids) check_target(*kid);
  } else if (!eval_name(target).is(Kind::name_space)) {
    raise("TemplateRuntimeError", "cannot assign attribute on non-namespace object");
  }
}

void Evaluator::run_set(const Node& node) {
  check_target(*node.kids[0]);
  const Datum value = eval(*node.kids[1]);
  assign(*node.kids[0], value);
  // {% for i in range(…) %}{% set message = messages[i] %}: the rest of the pass is this message's
  if (int_item_ && node.kids[0]->is == Is::name)
    if (const int message = message_of(value); message >= 0) message_ = message;
}

void Evaluator::run_generation(const Node& node) {
  const std::string made = captured(node.body, std::make_shared<Scope>(Scope{scope_, {}}));
  const size_t begin = text.size();
  generations.push_back({begin, begin + made.size()});
  if (out_ != &text) kept_generations_.emplace_back(begin, made);
  emit(made);
}

void Evaluator::run_call_block(const Node& node) {
  const Node& called = *node.kids[0];
  Call call = arguments(called);
  call.named.emplace_back("caller", macro(node));
  emit(to_str(this->call(eval(*called.kids[0]), call)));
}

void Evaluator::store(const std::string& name, Datum value) {
  for (auto& [known, old] : scope_->values)
    if (*known == name) {
      old = std::move(value);
      return;
    }
  scope_->values.emplace_back(&name, std::move(value));
}

void Evaluator::assign(const Node& target, const Datum& value) {
  if (target.is == Is::name) return store(target.text, value);
  if (target.is == Is::attribute_target) {
    const Datum space = eval_name(target);
    if (!space.is(Kind::name_space)) return check_target(target);
    const std::string& name = target.kids[0]->text;
    if (name.starts_with("_"))
      raise("SecurityError", "Chat templates cannot store underscore-prefixed attributes on a namespace, but got " +
                                 repr(name) + ". Please rename the attribute.");
    return space.attributes().set(Datum::string(name), value);
  }
  const std::vector<Datum> items = iterate(value);
  const size_t wanted = target.kids.size();
  if (items.size() < wanted)
    raise("ValueError", "not enough values to unpack (expected " + std::to_string(wanted) + ", got " +
                            std::to_string(items.size()) + ")");
  if (items.size() > wanted) raise("ValueError", "too many values to unpack (expected " + std::to_string(wanted) + ")");
  for (size_t i = 0; i < wanted; ++i) assign(*target.kids[i], items[i]);
}

Evaluator::Flow Evaluator::run_for(const Node& node, const Datum& what, int depth) {
  auto loop = std::make_shared<LoopObject>();
  loop->depth0 = depth;
  if (what.is_undefined()) {
    if (const UndefinedObject* why = what.why_undefined(); why && why->type != std::string_view("UndefinedError"))
      use_undefined(what);
  }
  loop->items = iterate(what);
  if (node.kids[2]) {
    std::vector<Datum> kept;
    for (Datum& item : loop->items) {
      const Enter enter(*this, std::make_shared<Scope>(Scope{scope_, {}}));
      assign(*node.kids[0], item);
      if (truth(eval(*node.kids[2]))) kept.push_back(std::move(item));
    }
    loop->items = std::move(kept);
  }
  if (node.flag) {
    const ScopePtr outer = scope_;
    loop->recurse = [&node, outer, depth](Evaluator& evaluator, const Datum& more) {
      const Frame frame(evaluator);
      std::string buffer;
      std::string* const before = std::exchange(evaluator.out_, &buffer);
      const Enter enter(evaluator, outer);
      try {
        evaluator.run_for(node, more, depth + 1);
      } catch (...) {
        evaluator.out_ = before;
        throw;
      }
      evaluator.out_ = before;
      return Datum::string(std::move(buffer));
    };
  }
  if (loop->items.empty()) {
    const Enter enter(*this, std::make_shared<Scope>(Scope{scope_, {}}));
    return run(node.otherwise);
  }
  return run_loop(node, loop, what.is(Kind::range));
}

Evaluator::Flow Evaluator::run_loop(const Node& node, const std::shared_ptr<LoopObject>& loop, bool int_items) {
  static const std::string kLoop = "loop";
  const int message = message_;
  const bool int_item = std::exchange(int_item_, int_items);
  const Datum self = Datum::loop(loop);
  bool completed = false;  // what jinja2 tells an empty loop by: a pass that runs to its end
  for (size_t i = 0; i < loop->items.size(); ++i) {
    spend_steps(1);
    loop->index0 = static_cast<int64_t>(i);
    loop->started = true;
    const Enter enter(*this, std::make_shared<Scope>(Scope{scope_, {}}));
    scope_->values.emplace_back(&kLoop, self);
    assign(*node.kids[0], loop->items[i]);
    if (const int own = message_of(loop->items[i]); own >= 0) message_ = own;
    const Flow flow = run(node.body);
    message_ = message;
    completed |= flow == Flow::normal;
    if (flow == Flow::break_) break;
  }
  int_item_ = int_item;
  if (completed) return Flow::normal;
  const Enter enter(*this, std::make_shared<Scope>(Scope{scope_, {}}));
  return run(node.otherwise);
}

Datum Evaluator::macro(const Node& node) {
  captured_scopes_.push_back(scope_);
  const ScopePtr outer = scope_;
  return Datum::function(
      node.is == Is::macro ? node.text : "caller",
      [&node, outer](Evaluator& evaluator, const Call& call) { return evaluator.call_macro(node, outer, call); },
      "Macro");
}

Datum Evaluator::call_macro(const Node& node, const ScopePtr& outer, const Call& call) {
  const Frame frame(*this);
  const int at = line;
  auto scope = std::make_shared<Scope>(Scope{outer, {}});
  {
    const Enter enter(*this, scope);
    bind_parameters(node, call);
  }
  Datum made = Datum::string(captured(node.body, std::move(scope)));
  line = at;
  return made;
}

/// Puts a call's arguments into the scope, as jinja2.runtime.Macro does.
void Evaluator::bind_parameters(const Node& node, const Call& call) {
  static const std::string kCaller = "caller", kKwargs = "kwargs", kVarargs = "varargs";
  const std::string name = node.is == Is::macro ? repr(node.text) : "None";
  std::vector<bool> used(call.named.size());
  for (size_t i = 0; i < node.parameters.size(); ++i) {
    const auto& [parameter, otherwise] = node.parameters[i];
    const Datum* given = i < call.args.size() ? &call.args[i] : nullptr;
    for (size_t k = 0; !given && k < call.named.size(); ++k)
      if (!used[k] && call.named[k].first == parameter) {
        used[k] = true;
        given = &call.named[k].second;
      }
    if (given)
      store(parameter, *given);
    else if (otherwise)
      store(parameter, eval(*otherwise));
    else
      store(parameter, Datum::undefined("parameter " + repr(parameter) + " was not provided"));
  }
  std::vector<std::pair<Datum, Datum>> rest;
  bool has_caller = false;
  for (size_t k = 0; k < call.named.size(); ++k) {
    if (used[k]) continue;
    if (node.uses_caller && call.named[k].first == kCaller) {
      store(kCaller, call.named[k].second);
      has_caller = true;
    } else {
      rest.emplace_back(Datum::string(call.named[k].first), call.named[k].second);
    }
  }
  if (node.uses_caller && !has_caller) store(kCaller, Datum::undefined("No caller defined"));
  if (node.uses_kwargs) {
    store(kKwargs, Datum::dict(std::move(rest)));
  } else if (!rest.empty()) {
    if (rest[0].first.str() == kCaller)
      type_error("macro " + name +
                 " was invoked with two values for the special caller argument. This is most likely a bug.");
    type_error("macro " + name + " takes no keyword argument " + to_repr(rest[0].first));
  }
  const size_t most = node.parameters.size();
  if (node.uses_varargs)
    store(kVarargs, Datum::list({call.args.begin() + static_cast<std::ptrdiff_t>(std::min(most, call.args.size())),
                                 call.args.end()},
                                Kind::tuple));
  else if (call.args.size() > most)
    type_error("macro " + name + " takes not more than " + std::to_string(most) + " argument(s)");
}

Datum Evaluator::call(const Datum& function, const Call& call) {
  const Frame frame(*this);
  if (function.is_undefined()) use_undefined(function);
  if (function.is(Kind::loop) && function.loop().recurse) {
    if (call.args.size() != 1) type_error("a recursive loop wants one argument");
    return function.loop().recurse(*this, call.args[0]);
  }
  if (function.is(Kind::loop)) type_error("The loop must have the 'recursive' marker to be called recursively.");
  if (!function.is(Kind::function) || !function.function().body)
    type_error("'" + type_name(function) + "' object is not callable");
  return function.function().body(*this, call);
}

Datum Evaluator::make_namespace(const Call& call) {
  const Datum space = Datum::name_space();
  spaces_.push_back(space.object());
  const auto set = [&](const Datum& key, const Datum& value) {
    check_hashable(key);
    if (key.is_string() && key.str().starts_with("_"))
      raise("SecurityError", "Chat templates cannot store underscore-prefixed attributes on a namespace, but got " +
                                 to_repr(key) + ". Please rename the attribute.");
    space.attributes().set(key, value);
  };
  if (call.args.size() > 1) type_error("dict expected at most 1 argument, got " + std::to_string(call.args.size()));
  if (!call.args.empty()) {
    const Datum& from = call.args[0];
    if (from.is_undefined()) use_undefined(from);
    if (from.is(Kind::dict)) {
      for (const auto& [key, value] : from.entries().items) set(key, value);
    } else {
      for (const Datum& pair : iterate(from)) {
        const std::vector<Datum> items = iterate(pair);
        if (items.size() != 2)
          raise("ValueError",
                "dictionary update sequence element has length " + std::to_string(items.size()) + "; 2 is required");
        set(items[0], items[1]);
      }
    }
  }
  for (const auto& [key, value] : call.named) set(Datum::string(key), value);
  return space;
}

}  // namespace ft::jinja
