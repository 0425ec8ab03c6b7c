#pragma once
/// From a description to modules. A block is a map with a `type`, a `name` relative to its parent (as weights are
/// called on disk) and what its type asks for; blocks inside it are maps or lists of maps. stdlib/ft/nn.lua makes them.
/// Called by Model's constructor alone; nothing is allocated.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/formats/lora_targets.h"
#include "engine/layers/model.h"
#include "engine/layers/rope_table.h"
#include "engine/layers/router_balance.h"

namespace ft {

class Builder;

/// How the ranks of the tensor group share a linear: each makes some of its features (out), takes some of them in (in:
/// what it makes is a part of a sum), or has it whole.
struct LinearSplit {
  enum class By { none, out, in };
  By by = By::none;
  int64_t index = 0, parts = 1;  ///< which of how many equal parts this rank has
};

/// Makes the modules of block type "lua", whose forward this folder cannot know. Set once, by lua/bind, before any
/// model is built.
using ModuleFactory = std::function<std::unique_ptr<Module>(Builder&, const Value&, const std::string& parent)>;
void set_lua_factory(ModuleFactory factory);

class Builder {
 public:
  explicit Builder(const ModelOptions& options);

  /// @param parent module path that the block's name is appended to; "" at the top.
  /// @throws Error(config) for an unknown type or a missing key, naming the module's path.
  std::unique_ptr<Module> block(const Value& description, const std::string& parent);
  /// The block under a key of its parent's description, as the module type that the parent needs.
  template <class M>
  std::unique_ptr<M> part(const Value& description, const char* key, const std::string& parent) {
    auto made = block(description.at(key), parent);
    auto* typed = dynamic_cast<M*>(made.get());
    if (!typed) wrong_part(key, parent);
    made.release();
    return std::unique_ptr<M>(typed);
  }

  /// The same for a linear that the tensor group's ranks share.
  template <class M>
  std::unique_ptr<M> part(const Value& description, const char* key, const std::string& parent,
                          const LinearSplit& split) {
    split_ = split;
    return part<M>(description, key, parent);
  }
  /// What the linear that is being made was asked for with; asking takes it.
  LinearSplit take_split() { return std::exchange(split_, {}); }
  /// Every rank of the tensor group has a part of its own.
  LinearSplit evenly(LinearSplit::By by) const { return {by, tensor().rank, tensor().size}; }
  const TensorAxis& tensor() const { return options_->tensor; }

  /// Inside decoder layers linears are quantized and "all-linear" reaches them; not in the head.
  void set_in_layers(bool in_layers) { in_layers_ = in_layers; }
  bool in_layers() const { return in_layers_; }
  const ModelOptions& options() const { return *options_; }
  /// How a parameter of the base model is stored.
  Storage base_storage() const { return options_->lora ? Storage::frozen : Storage::trainable; }
  /// Whether this linear gets LoRA; remembered in adapted().
  bool adapt(const std::string& module_path);
  const std::vector<std::string>& adapted() const { return adapted_; }
  /// Has LoRA begin by LoftQ; the parameters stay where they are for as long as the model lives.
  void begin_by_loftq(const LowRankStart& start) { low_rank_starts_.push_back(start); }
  const std::vector<LowRankStart>& low_rank_starts() const { return low_rank_starts_; }
  /// Rank and scale of LoRA on a module that gets it.
  LoraShape lora_shape(const std::string& module_path) const { return targets_.shape(module_path); }
  /// Rotary tables are shared by all layers that rotate alike.
  std::shared_ptr<RopeTable> rope_table(const RopeOptions& options, int64_t width);
  const std::vector<std::shared_ptr<RopeTable>>& rope_tables() const { return ropes_; }
  /// The auxiliary loss that all layers with experts share; one of this coefficient is made where there is none.
  std::shared_ptr<RouterBalance> balance(double coefficient);
  std::shared_ptr<RouterBalance> balance() const { return balance_; }  ///< null where no layer asked for it

 private:
  [[noreturn]] static void wrong_part(const char* key, const std::string& parent);

  const ModelOptions* options_;
  LoraTargets targets_;
  bool in_layers_ = false;
  LinearSplit split_;
  std::vector<std::string> adapted_;
  std::vector<LowRankStart> low_rank_starts_;
  std::vector<std::shared_ptr<RopeTable>> ropes_;
  std::shared_ptr<RouterBalance> balance_;
};

/// "parent.name", or the one that is not empty.
std::string module_path(const std::string& parent, const std::string& name);

}  // namespace ft
