#include "engine/layers/builder.h"

#include "engine/error/error.h"
#include "engine/layers/attention_block.h"
#include "engine/layers/decoder_blocks.h"
#include "engine/layers/experts.h"
#include "engine/layers/norm.h"

namespace ft {
namespace {

using Make = std::unique_ptr<Module> (*)(Builder&, const Value&, const std::string&);

template <class M>
std::unique_ptr<Module> make(Builder& builder, const Value& description, const std::string& parent) {
  return std::make_unique<M>(builder, description, parent);
}

template <Join kJoin>
std::unique_ptr<Module> make_joined(Builder& builder, const Value& description, const std::string& parent) {
  return std::make_unique<Joined>(builder, description, parent, kJoin);
}

ModuleFactory lua_factory;

std::unique_ptr<Module> make_lua(Builder& builder, const Value& description, const std::string& parent) {
  if (builder.tensor().split())
    throw Error(ErrorKind::config, "its forward is Lua, which tensor parallelism cannot share out")
        .key("parallel.tensor_parallel_size")
        .help("state the model from native blocks, or split it by parallel.mesh.shard");
  if (!lua_factory) throw Error(ErrorKind::config, "its forward is Lua, and no recipe is running");
  return lua_factory(builder, description, parent);
}

const std::vector<std::pair<const char*, Make>> kBlocks{
    {"embedding", make<Embedding>},      {"rmsnorm", make<RmsNorm>},
    {"layernorm", make<LayerNorm>},      {"linear", make<Linear>},
    {"attention", make<Attention>},      {"swiglu", make<Swiglu>},
    {"chain", make_joined<Join::chain>}, {"residual", make_joined<Join::residual>},
    {"sum", make_joined<Join::sum>},     {"lua", make_lua},
    {"experts", make<Experts>},
};

}  // namespace

void set_lua_factory(ModuleFactory factory) { lua_factory = std::move(factory); }

std::string module_path(const std::string& parent, const std::string& name) {
  if (parent.empty() || name.empty()) return parent + name;
  return parent + "." + name;
}

Builder::Builder(const ModelOptions& options)
    : options_(&options), targets_(options.lora ? *options.lora : LoraOptions{}) {}

std::unique_ptr<Module> Builder::block(const Value& description, const std::string& parent) {
  const std::string type = description.at("type").as_string();
  for (const auto& [name, make] : kBlocks)
    if (type == name) {
      try {
        return make(*this, description, parent);
      } catch (Error& e) {
        e.context("building " + module_path(parent, description.get("name", type.c_str())));
        throw;
      }
    }
  std::string known;
  for (const auto& [name, make] : kBlocks) known += (known.empty() ? "" : ", ") + std::string(name);
  throw Error(ErrorKind::config, "unknown block '" + type + "'").key(parent).help("blocks: " + known);
}

bool Builder::adapt(const std::string& module_path) {
  if (!options_->lora || !targets_.match(module_path, in_layers_)) return false;
  adapted_.push_back(module_path);
  return true;
}

std::shared_ptr<RopeTable> Builder::rope_table(const RopeOptions& options, int64_t width) {
  for (const auto& table : ropes_)
    if (table->width() == width && table->options() == options) return table;
  return ropes_.emplace_back(std::make_shared<RopeTable>(options, width));
}

std::shared_ptr<RouterBalance> Builder::balance(double coefficient) {
  if (!balance_) balance_ = std::make_shared<RouterBalance>(coefficient);
  return balance_;
}

void Builder::wrong_part(const char* key, const std::string& parent) {
  throw Error(ErrorKind::config, "another block is wanted here").key(parent + "." + key);
}

}  // namespace ft
