#include "engine/layers/model.h"

#include "engine/error/error.h"
#include "engine/layers/builder.h"
#include "engine/layers/decoder_blocks.h"
#include "engine/layers/head.h"

namespace ft {

Model::Model(const Value& description, const ModelOptions& options) {
  if (const std::string type = description.get("type", ""); type != "decoder")
    throw Error(ErrorKind::config, "got type '" + type + "', want 'decoder'").key("model.description");
  Builder builder(options);
  auto embedding = builder.part<Embedding>(description, "embedding", "");
  vocab_size_ = embedding->vocab();
  Parameter& table = embedding->weight();
  const auto add = [&](std::string name, std::unique_ptr<Module> module) -> ModelUnit& {
    auto parameters = module->parameters();
    units_.push_back({.name = std::move(name), .module = std::move(module), .parameters = std::move(parameters)});
    return units_.back();
  };
  const std::string embedding_name = embedding->name();
  add(embedding_name, std::move(embedding)).backward_reads = false;

  builder.set_in_layers(true);
  for (const Value& layer : description.at("layers").as_list()) {
    auto module = builder.block(layer, "");
    const std::string name = module->name();
    add(name, std::move(module));
  }
  builder.set_in_layers(false);

  auto head = std::make_unique<Head>(builder, description.at("head"), table);
  const bool tied = head->tied();
  ModelUnit& last = add("lm_head", std::move(head));
  last.checkpoint = false;
  if (tied) last.borrows = {0};

  adapted_ = builder.adapted();
  if (options.lora && adapted_.empty())
    throw Error(ErrorKind::config, "no linear of the model matches " + describe(options.lora->target_modules))
        .key("adapter.target_modules")
        .help("write \"all-linear\", or names such as q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj");
}

std::vector<Parameter*> Model::parameters() {
  std::vector<Parameter*> all;
  for (ModelUnit& unit : units_) all.insert(all.end(), unit.parameters.begin(), unit.parameters.end());
  return all;
}

int64_t Model::num_layers() const { return static_cast<int64_t>(units_.size()) - 2; }

}  // namespace ft
