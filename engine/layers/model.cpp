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
  const EmbeddingLora* table_lora = embedding->lora();
  add(embedding_name, std::move(embedding)).backward_reads = table_lora != nullptr;

  builder.set_in_layers(true);
  for (const Value& layer : description.at("layers").as_list()) {
    auto module = builder.block(layer, "");
    const std::string name = module->name();
    add(name, std::move(module));
  }
  builder.set_in_layers(false);

  auto head = std::make_unique<Head>(builder, description.at("head"), table);
  const bool tied = head->tied();
  if (tied && table_lora) {
    if (!options.lora->ensure_weight_tying)
      throw Error(ErrorKind::config, "the head shares " + embedding_name + "'s weight, and PEFT would part them")
          .key("adapter.target_modules")
          .help("write ensure_weight_tying = true: the adapter changes both, here and where PEFT loads it");
    head->share(*table_lora);
  }
  ModelUnit& last = add("lm_head", std::move(head));
  last.checkpoint = false;
  if (tied) last.borrows = {0};

  adapted_ = builder.adapted();
  low_rank_starts_ = builder.low_rank_starts();
  for (const auto& table : builder.rope_tables())
    if (table->options().type == "longrope") angle_switches_.push_back(table->options().original);
  balance_ = builder.balance();
  if (options.lora && adapted_.empty())
    throw Error(ErrorKind::config, "no linear of the model matches " + describe(options.lora->target_modules))
        .key("adapter.target_modules")
        .help("write \"all-linear\", or names such as q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj");
  if (options.lora) train_whole(*options.lora, table);
  if (!options.lora && !options.unfrozen.empty()) freeze_all_but(options.unfrozen);
}

/// Has what modules_to_save names trained whole, beside the adapters.
void Model::train_whole(const LoraOptions& lora, const Parameter& embedding) {
  const LoraTargets targets(lora);
  const bool tied = !units_.back().borrows.empty();
  for (const std::string& name : targets.saved()) {
    bool found = false;
    for (Parameter* p : parameters()) {
      if (!LoraTargets::within(p->name, name)) continue;
      p->storage = Storage::trainable;
      found = true;
    }
    if (found) continue;
    const bool is_head = tied && LoraTargets::within("lm_head.weight", name);
    throw Error(ErrorKind::config, is_head ? "the head has no weight of its own: it is the embedding's"
                                           : "no module of the model is called '" + name + "'")
        .key("adapter.modules_to_save")
        .help(is_head ? "name the embedding"
                      : "names are those of config.json's model: embed_tokens, lm_head, norm, …");
  }
  if (tied && !lora.ensure_weight_tying && targets.saves(embedding.name))
    throw Error(ErrorKind::config, "the head shares the embedding's weight, and PEFT would part them")
        .key("adapter.modules_to_save")
        .help("write ensure_weight_tying = true: both stay one weight, here and where PEFT loads the adapter");
}

void Model::freeze_all_but(const std::vector<std::string>& patterns) {
  std::vector<ModulePattern> compiled;
  for (const std::string& pattern : patterns)
    compiled.emplace_back(pattern, ModulePattern::Ends::anywhere, "unfrozen_parameters");
  std::vector<char> used(patterns.size(), 0);
  for (Parameter* p : parameters()) {
    bool trained = false;
    for (size_t i = 0; i < compiled.size(); ++i)
      if (compiled[i].match(p->name)) trained = used[i] = true;
    if (!trained) p->storage = Storage::frozen;
  }
  for (size_t i = 0; i < used.size(); ++i)
    if (!used[i])
      throw Error(ErrorKind::config, "no parameter's name matches '" + patterns[i] + "' from its start")
          .key("unfrozen_parameters")
          .help("names look like " + parameters()[parameters().size() / 2]->name);
}

std::vector<Parameter*> Model::parameters() {
  std::vector<Parameter*> all;
  for (ModelUnit& unit : units_) all.insert(all.end(), unit.parameters.begin(), unit.parameters.end());
  return all;
}

int64_t Model::num_layers() const { return static_cast<int64_t>(units_.size()) - 2; }

}  // namespace ft
