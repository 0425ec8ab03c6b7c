#pragma once
/// Python pickles (Lib/pickletools.py, protocols 2 to 5) as a machine that builds a description of what they hold and
/// never calls anything: a call stays a node with the callee's name and its arguments. Opcodes and globals go by an
/// allow-list; anything else is refused by name. No step recurses, and what a pickle may make is bounded, so that a
/// crafted one costs a message. Read by torch_file and the readers of other engines' checkpoints; one thread a pickle,
/// const members from any thread.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ft {

/// One value. Nodes are owned by their Pickle, and may be shared or, in a crafted pickle, refer to themselves: whoever
/// walks them goes down by known steps only.
struct PickleNode {
  enum class Kind {
    none,
    boolean,
    integer,
    big_integer,  ///< beyond 64 bits: `text` holds its bytes, little-endian
    number,
    text,   ///< UTF-8
    bytes,  ///< also what Python 2 called a string
    list,
    tuple,
    set,
    dict,        ///< `items`: key, value, key, value, …
    global,      ///< a name of the allow-list: `text`, "torch.FloatStorage"
    call,        ///< `text`: the callee's name; `items`: its arguments; `state`: what BUILD was given, or nullptr
    persistent,  ///< a storage of the archive: `items` has the one id
  };

  Kind kind = Kind::none;
  bool truth = false;
  int64_t integer = 0;
  double number = 0;
  std::string_view text = {};
  std::vector<const PickleNode*> items = {};
  const PickleNode* state = nullptr;

  bool is(Kind wanted) const { return kind == wanted; }
  bool is_call(std::string_view name) const { return kind == Kind::call && text == name; }
  bool is_sequence() const { return kind == Kind::list || kind == Kind::tuple; }
  /// The value of a dict's entry with this text for a key; the last one counts. nullptr when there is none, or this is
  /// no dict.
  const PickleNode* find(std::string_view key) const;
};

/// "integer 3", "text 'weight'", "a call of collections.OrderedDict": for messages.
std::string describe(const PickleNode& node);

struct PickleLimits {
  size_t bytes = size_t{256} << 20;  ///< of the pickle
  size_t nodes = 8'000'000;          ///< values: 80 bytes each, small integers and constants apart
  size_t references = 16'000'000;    ///< entries of lists, tuples, sets and dicts: 8 bytes each
  bool allow_persistent = false;     ///< BINPERSID: only in an archive that has storages
};

/// One pickle, read whole when it is made.
class Pickle {
 public:
  /// @param bytes from the first opcode on; what follows STOP is left alone. @param name of the file, for messages.
  /// @throws Error(format) with the opcode's position for what is not on the allow-list, truncated or past the limits.
  Pickle(std::vector<char> bytes, std::string name, const PickleLimits& limits = {});
  Pickle(Pickle&&) = default;

  const PickleNode& root() const { return *root_; }
  const std::string& name() const { return name_; }
  /// Bytes up to and with STOP.
  size_t size() const { return size_; }
  /// All nodes of Kind::persistent, in the order of the bytes.
  const std::vector<const PickleNode*>& persistent() const { return persistent_; }

 private:
  friend class PickleMachine;
  std::vector<char> bytes_;  // nodes' texts point into it: it must not move when the Pickle does
  std::string name_;
  std::deque<PickleNode> nodes_;
  std::vector<const PickleNode*> persistent_;
  const PickleNode* root_ = nullptr;
  size_t size_ = 0;
};

/// What a name that a pickle asks for may be used as.
enum class PickleRole {
  refused,
  constant,  ///< stands for itself: torch.float32, torch.FloatStorage
  dict,      ///< calling it makes a dict: collections.OrderedDict
  set,
  call,  ///< calling it leaves a call node
};
/// The allow-list.   @return the role and the name's lasting text ("module.name").
std::pair<PickleRole, std::string_view> pickle_role(std::string_view module, std::string_view name);

}  // namespace ft
