#include "engine/formats/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstring>

#include "engine/error/error.h"

namespace ft {
namespace {

using Kind = PickleNode::Kind;

// Opcodes that exist and are not taken (Lib/pickletools.py): those of protocols 0 and 1, those that make objects by
// other ways, and those that need something beside the file.
const char* refused_opcode(uint8_t code) {
  constexpr std::pair<uint8_t, const char*> kNames[] = {
      {'I', "INT"},      {'L', "LONG"},        {'F', "FLOAT"},
      {'V', "UNICODE"},  {'S', "STRING"},      {'g', "GET"},
      {'p', "PUT"},      {'i', "INST"},        {'o', "OBJ"},
      {'P', "PERSID"},   {0x82, "EXT1"},       {0x83, "EXT2"},
      {0x84, "EXT4"},    {0x92, "NEWOBJ_EX"},  {0x97, "NEXT_BUFFER"},
      {'2', "DUP"},      {0x96, "BYTEARRAY8"}, {0x98, "READONLY_BUFFER"},
      {'Q', "BINPERSID"}};
  for (const auto& [known, name] : kNames)
    if (known == code) return name;
  return nullptr;
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xc2 && lead < 0xe0 ? 2
                          : (lead & 0xf0) == 0xe0       ? 3
                          : lead >= 0xf0 && lead < 0xf5 ? 4
                                                        : 0;
    if (length == 0 || length > text.size() - i) return false;
    for (size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    i += length;
  }
  return true;
}

constexpr size_t kSmallIntegers = 256;

// Nodes that every pickle shares.
struct Shared {
  Shared() {
    yes.kind = no.kind = Kind::boolean;
    yes.truth = true;
    empty.kind = Kind::tuple;
    for (size_t i = 0; i < kSmallIntegers; ++i) {
      integers[i].kind = Kind::integer;
      integers[i].integer = static_cast<int64_t>(i);
    }
  }
  PickleNode none, yes, no, empty;
  std::array<PickleNode, kSmallIntegers> integers;
};

Shared& shared() {
  static Shared nodes;  // never written after it is made: only lists, dicts, sets and calls are
  return nodes;
}

}  // namespace

/// Runs the opcodes. One use.
class PickleMachine {
 public:
  PickleMachine(Pickle& pickle, const PickleLimits& limits)
      : pickle_(pickle), limits_(limits), bytes_(pickle.bytes_.data(), pickle.bytes_.size()) {}

  void run() {
    while (!done_) {
      begin_ = at_;
      const auto code = static_cast<uint8_t>(take(1)[0]);
      if (!constant(code) && !string(code) && !container(code) && !memo(code) && !name(code)) refuse(code);
    }
    pickle_.size_ = at_;
  }

 private:
  // Each of these runs the opcodes of one kind; false for another's.
  bool constant(uint8_t code);
  bool string(uint8_t code);
  bool container(uint8_t code);
  bool memo(uint8_t code);
  bool name(uint8_t code);

  void protocol(uint8_t version) {
    if (version < 2 || version > 5) fail("is written in protocol " + std::to_string(version) + ", want 2, 3, 4 or 5");
  }
  void stop() {
    if (stack_.size() != 1 || !marks_.empty()) fail("ends with " + std::to_string(stack_.size()) + " values, want one");
    pickle_.root_ = stack_[0];
    done_ = true;
  }

  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_)
      fail("wants " + std::to_string(count) + " more bytes and has " + std::to_string(bytes_.size() - at_) +
           ": it is truncated");
    const std::string_view result = bytes_.substr(at_, count);
    at_ += count;
    return result;
  }
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) fail("names a global without end: it is truncated");
    const std::string_view result = bytes_.substr(at_, end - at_);
    at_ = end + 1;
    return result;
  }

  PickleNode& make(Kind kind) {
    if (pickle_.nodes_.size() >= limits_.nodes) fail("makes more than " + std::to_string(limits_.nodes) + " values");
    PickleNode& node = pickle_.nodes_.emplace_back();
    node.kind = kind;
    return node;
  }
  void push(PickleNode& node) {
    if (stack_.size() >= limits_.references) fail("stacks more than " + std::to_string(limits_.references) + " values");
    stack_.push_back(&node);
  }
  void push_text(Kind kind, std::string_view text) {
    if (kind == Kind::text && !is_utf8(text)) fail("has a text that is not UTF-8");
    PickleNode& node = make(kind);
    node.text = text;
    push(node);
  }
  void push_integer(int64_t value) {
    if (value >= 0 && value < static_cast<int64_t>(kSmallIntegers))
      return push(shared().integers[static_cast<size_t>(value)]);
    PickleNode& node = make(Kind::integer);
    node.integer = value;
    push(node);
  }
  void push_long(std::string_view digits);

  PickleNode& pop() {
    if (stack_.empty() || (!marks_.empty() && stack_.size() <= marks_.back()))
      fail("takes a value from an empty stack");
    PickleNode& node = *stack_.back();
    stack_.pop_back();
    return node;
  }
  PickleNode& top(Kind kind, const char* what) {
    PickleNode& node = pop();
    stack_.push_back(&node);
    if (node.kind != kind) fail("adds to " + describe(node) + ", want a " + what);
    return node;
  }
  // What stands above the last mark, which goes.
  std::vector<PickleNode*> pop_mark() {
    if (marks_.empty()) fail("wants a MARK and there is none");
    std::vector<PickleNode*> result(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return result;
  }
  void add(PickleNode& to, const std::vector<PickleNode*>& items) {
    refer(items.size());
    to.items.insert(to.items.end(), items.begin(), items.end());
  }
  void add_pairs(const std::vector<PickleNode*>& items) {
    if (items.size() % 2 != 0) fail("sets " + std::to_string(items.size()) + " items, want keys with values");
    add(top(Kind::dict, "dict"), items);
  }
  PickleNode& container_of(Kind kind, const std::vector<PickleNode*>& items) {
    PickleNode& node = make(kind);
    add(node, items);
    return node;
  }
  void tuple_of(size_t count) {
    std::vector<PickleNode*> items(count);
    for (size_t i = count; i > 0; --i) items[i - 1] = &pop();
    push(container_of(Kind::tuple, items));
  }
  void refer(size_t count) {
    references_ += count;
    if (references_ > limits_.references) fail("holds more than " + std::to_string(limits_.references) + " references");
  }

  void memoize(uint64_t index) {
    PickleNode& node = pop();
    stack_.push_back(&node);
    if (index >= limits_.nodes)
      fail("remembers value " + std::to_string(index) + ", want at most " + std::to_string(limits_.nodes));
    if (index >= memo_.size()) memo_.resize(index + 1);
    memorized_ += memo_[index] == nullptr;
    memo_[index] = &node;
  }
  void recall(uint64_t index) {
    if (index >= memo_.size() || !memo_[index])
      fail("recalls value " + std::to_string(index) + ", which it never stored");
    push(*memo_[index]);
  }

  void global(std::string_view module, std::string_view name);
  void call();
  void build();
  [[noreturn]] void refuse(uint8_t code) const;
  [[noreturn]] void fail(const std::string& message) const {
    throw Error(ErrorKind::format, message + " (byte " + std::to_string(begin_) + " of the pickle)").at(pickle_.name_);
  }

  Pickle& pickle_;
  const PickleLimits& limits_;
  std::string_view bytes_;
  std::vector<PickleNode*> stack_;
  std::vector<size_t> marks_;
  std::vector<PickleNode*> memo_;
  size_t at_ = 0, begin_ = 0, references_ = 0, memorized_ = 0;
  bool done_ = false;
};

bool PickleMachine::constant(uint8_t code) {
  switch (code) {
    case 0x80:  // PROTO
      return protocol(number<uint8_t>()), true;
    case 0x95:  // FRAME: only says how far to read ahead
      return number<uint64_t>(), true;
    case '.':
      return stop(), true;
    case 'N':
      return push(shared().none), true;
    case 0x88:
      return push(shared().yes), true;
    case 0x89:
      return push(shared().no), true;
    case 'K':
      return push_integer(number<uint8_t>()), true;
    case 'M':
      return push_integer(number<uint16_t>()), true;
    case 'J':
      return push_integer(number<int32_t>()), true;
    case 0x8a:  // LONG1
      return push_long(take(number<uint8_t>())), true;
    case 0x8b: {  // LONG4
      const auto length = number<int32_t>();
      if (length < 0) fail("has an integer of negative length");
      return push_long(take(static_cast<uint64_t>(length))), true;
    }
    case 'G': {  // BINFLOAT: big-endian
      PickleNode& node = make(Kind::number);
      node.number = std::bit_cast<double>(__builtin_bswap64(number<uint64_t>()));
      return push(node), true;
    }
    default:
      return false;
  }
}

void PickleMachine::push_long(std::string_view digits) {
  while (digits.size() > 1) {  // bytes that only repeat the sign
    const auto last = static_cast<unsigned char>(digits.back()),
               before = static_cast<unsigned char>(digits[digits.size() - 2]);
    if (!(last == 0 && before < 0x80) && !(last == 0xff && before >= 0x80)) break;
    digits.remove_suffix(1);
  }
  if (digits.size() > 8) return push_text(Kind::big_integer, digits);
  uint64_t value = 0;
  for (size_t i = 0; i < digits.size(); ++i) value |= uint64_t{static_cast<unsigned char>(digits[i])} << (8 * i);
  const bool negative = !digits.empty() && (static_cast<unsigned char>(digits.back()) & 0x80) != 0;
  if (negative && digits.size() < 8) value |= ~uint64_t{0} << (8 * digits.size());
  push_integer(static_cast<int64_t>(value));
}

bool PickleMachine::string(uint8_t code) {
  switch (code) {
    case 0x8c:  // SHORT_BINUNICODE
      return push_text(Kind::text, take(number<uint8_t>())), true;
    case 'X':
      return push_text(Kind::text, take(number<uint32_t>())), true;
    case 0x8d:  // BINUNICODE8
      return push_text(Kind::text, take(number<uint64_t>())), true;
    case 'C':  // SHORT_BINBYTES
    case 'U':  // SHORT_BINSTRING
      return push_text(Kind::bytes, take(number<uint8_t>())), true;
    case 'B':  // BINBYTES
    case 'T':  // BINSTRING
      return push_text(Kind::bytes, take(number<uint32_t>())), true;
    case 0x8e:  // BINBYTES8
      return push_text(Kind::bytes, take(number<uint64_t>())), true;
    default:
      return false;
  }
}

bool PickleMachine::container(uint8_t code) {
  switch (code) {
    case '(':
      if (marks_.size() >= limits_.nodes) fail("nests deeper than " + std::to_string(limits_.nodes));
      return marks_.push_back(stack_.size()), true;
    case '0':  // POP
      return pop(), true;
    case '1':  // POP_MARK
      return pop_mark(), true;
    case ')':
      return push(shared().empty), true;
    case 0x85:
    case 0x86:
    case 0x87:
      return tuple_of(code - 0x84u), true;
    case 't': {
      const auto items = pop_mark();
      return push(container_of(Kind::tuple, items)), true;
    }
    case ']':
      return push(make(Kind::list)), true;
    case 'a': {
      PickleNode& item = pop();
      return add(top(Kind::list, "list"), {&item}), true;
    }
    case 'e': {
      const auto items = pop_mark();
      return add(top(Kind::list, "list"), items), true;
    }
    case 'l': {
      const auto items = pop_mark();
      return push(container_of(Kind::list, items)), true;
    }
    case '}':
      return push(make(Kind::dict)), true;
    case 's': {
      PickleNode &value = pop(), &key = pop();
      return add_pairs({&key, &value}), true;
    }
    case 'u':
      return add_pairs(pop_mark()), true;
    case 'd': {
      const auto items = pop_mark();
      push(make(Kind::dict));
      return add_pairs(items), true;
    }
    case 0x8f:
      return push(make(Kind::set)), true;
    case 0x90: {
      const auto items = pop_mark();
      return add(top(Kind::set, "set"), items), true;
    }
    case 0x91: {
      const auto items = pop_mark();
      return push(container_of(Kind::set, items)), true;
    }
    default:
      return false;
  }
}

bool PickleMachine::memo(uint8_t code) {
  switch (code) {
    case 'q':
      return memoize(number<uint8_t>()), true;
    case 'r':
      return memoize(number<uint32_t>()), true;
    case 0x94:
      return memoize(memorized_), true;
    case 'h':
      return recall(number<uint8_t>()), true;
    case 'j':
      return recall(number<uint32_t>()), true;
    default:
      return false;
  }
}

bool PickleMachine::name(uint8_t code) {
  switch (code) {
    case 'c': {
      const std::string_view module = line();
      return global(module, line()), true;
    }
    case 0x93: {  // STACK_GLOBAL
      const PickleNode &name = pop(), &module = pop();
      if (!name.is(Kind::text) || !module.is(Kind::text)) fail("names a global by " + describe(name));
      return global(module.text, name.text), true;
    }
    case 'R':   // REDUCE
    case 0x81:  // NEWOBJ
      return call(), true;
    case 'b':
      return build(), true;
    case 'Q': {  // BINPERSID
      if (!limits_.allow_persistent) return false;
      PickleNode& id = pop();
      PickleNode& node = make(Kind::persistent);
      add(node, {&id});
      pickle_.persistent_.push_back(&node);
      return push(node), true;
    }
    default:
      return false;
  }
}

void PickleMachine::global(std::string_view module, std::string_view name) {
  const auto [role, text] = pickle_role(module, name);
  if (role == PickleRole::refused) {
    const std::string full = std::string(module.substr(0, 100)) + "." + std::string(name.substr(0, 100));
    throw Error(ErrorKind::format, "asks for " + full +
                                       ", which is not on the list of what a checkpoint may name (byte " +
                                       std::to_string(begin_) + " of the pickle)")
        .at(pickle_.name_)
        .help(
            "nothing of a pickle is ever run here; if this file is not from where you think, do not open it elsewhere");
  }
  PickleNode& node = make(Kind::global);
  node.text = text;
  node.integer = static_cast<int64_t>(role);
  push(node);
}

void PickleMachine::call() {
  PickleNode &arguments = pop(), &callee = pop();
  if (!arguments.is(Kind::tuple)) fail("calls with " + describe(arguments) + ", want a tuple");
  if (!callee.is(Kind::global)) fail("calls " + describe(callee) + ", want a global");
  const auto role = static_cast<PickleRole>(callee.integer);
  if (role == PickleRole::constant) fail("calls " + describe(callee) + ", which is not for calling");
  if (role == PickleRole::call) {
    PickleNode& node = make(Kind::call);
    node.text = callee.text;
    refer(arguments.items.size());
    node.items = arguments.items;
    return push(node);
  }
  PickleNode& node = make(role == PickleRole::dict ? Kind::dict : Kind::set);
  // A dict or a set may be made of one list; a defaultdict's factory is no list, and says nothing.
  if (!arguments.items.empty() && arguments.items[0]->is_sequence()) {
    for (const PickleNode* item : arguments.items[0]->items) {
      const bool pair = item->is_sequence() && item->items.size() == 2;
      if (role == PickleRole::dict && !pair) fail("makes a dict of " + describe(*item) + ", want pairs");
      refer(2);
      if (role == PickleRole::dict)
        node.items.insert(node.items.end(), item->items.begin(), item->items.end());
      else
        node.items.push_back(item);
    }
  }
  push(node);
}

void PickleMachine::build() {
  const PickleNode& state = pop();
  PickleNode& node = pop();
  stack_.push_back(&node);
  if (node.is(Kind::call))
    node.state = &state;
  else if (!node.is(Kind::dict) && !node.is(Kind::set))  // attributes of an OrderedDict say nothing about its tensors
    fail("gives a state to " + describe(node) + ", want an object");
}

void PickleMachine::refuse(uint8_t code) const {
  if (const char* name = refused_opcode(code)) fail("uses opcode " + std::string(name) + ", which is not taken");
  char text[16];
  std::snprintf(text, sizeof text, "0x%02x", static_cast<unsigned>(code));
  fail("uses opcode " + std::string(text) + ", which pickles do not have");
}

Pickle::Pickle(std::vector<char> bytes, std::string name, const PickleLimits& limits)
    : bytes_(std::move(bytes)), name_(std::move(name)) {
  if (bytes_.size() > limits.bytes)
    throw Error(ErrorKind::format, "has " + std::to_string(bytes_.size()) + " bytes of pickle, want at most " +
                                       std::to_string(limits.bytes))
        .at(name_);
  PickleMachine(*this, limits).run();
}

}  // namespace ft
