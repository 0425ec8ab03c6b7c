// LoadedModel: a model for `generate` and `eval`, on this process alone; and what a plan says of its model. The same
// objects that a run trains.
#include <lua.hpp>

#include "engine/data/token_rows.h"
#include "engine/error/error.h"
#include "engine/formats/checkpoint.h"
#include "engine/formats/peft_adapter.h"
#include "engine/optim/parameter_groups.h"
#include "engine/train/base_model.h"
#include "engine/train/evaluate.h"
#include "engine/train/generate.h"
#include "engine/train/parity.h"
#include "engine/train/sharded_model.h"
#include "lua/bind/native.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/handle.h"
#include "lua/boundary/values.h"

namespace ft {

/// The files stay open as long as the model: its source reads from them.
struct LoadedModel {
  LoadedModel(const Value& plan, const std::string& checkpoint_path) {
    directory = open_base(plan.at("model"));
    if (!checkpoint_path.empty()) checkpoint = std::make_unique<Checkpoint>(checkpoint_path);
    const Value* lora = plan.find("adapter");
    if (!checkpoint && lora && lora->is_map() && lora->find("from"))
      adapter = std::make_unique<PeftAdapter>(lora->at("from").as_string());
    source = std::make_unique<WeightSource>(directory.get(), static_cast<uint64_t>(plan.get("seed", 0)),
                                            checkpoint.get(), adapter.get());
    model = std::make_unique<ShardedModel>(plan, *source, ProcessGroup::single());
    if (directory) check_weights(*directory, model->model());
    if (adapter) check_weights(*adapter, model->model());
    model->load(*source, [](int64_t) {});
  }
  std::unique_ptr<ModelDirectory> directory;
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<PeftAdapter> adapter;
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<ShardedModel> model;
};

namespace {

/// native.model_facts(plan) -> { trainable, all, layers, adapted = { names }, trained = { parameters } }; builds the
/// tree, allocates nothing.
int model_facts(lua_State* L) {
  return guarded(L, [&] {
    const Value plan = to_value(L, 1, "plan");
    const auto lora = lora_options(plan);
    const Value& described = plan.at("model");
    ModelOptions options;
    options.quantize_nf4 = described.get("quantize", "none") == "nf4";
    options.double_quant = described.get("double_quant", true);
    options.lora = lora ? &*lora : nullptr;
    options.unfrozen = unfrozen_parameters(plan);
    Model model(described.at("description"), options);
    int64_t trainable = 0, all = 0;
    std::vector<std::string> trained;
    for (const Parameter* parameter : model.parameters()) {
      all += parameter->numel();
      if (parameter->storage != Storage::trainable) continue;
      trainable += parameter->numel();
      trained.push_back(parameter->name);
    }
    if (const Value* optimizer = plan.find("optimizer")) check_groups(*optimizer, trained);
    Value::List adapted(model.adapted().begin(), model.adapted().end());
    push_value(L, Value::map({{"trainable", trainable},
                              {"all", all},
                              {"layers", model.num_layers()},
                              {"adapted", Value(std::move(adapted))},
                              {"trained", Value(Value::List(trained.begin(), trained.end()))}}));
    return 1;
  });
}

/// native.newest_checkpoint(run directory) -> path or nil
int newest(lua_State* L) {
  return guarded(L, [&] {
    std::string passed_over;
    const std::string run = text_argument(L, 1, "a run's directory");
    const auto found = newest_checkpoint(run, &passed_over);
    if (!found && !passed_over.empty())
      throw Error(ErrorKind::format, "holds no whole checkpoint: " + passed_over).at(run);
    if (!found) return 0;
    lua_pushstring(L, found->c_str());
    return 1;
  });
}

/// native.open_model(plan, checkpoint or nil) -> LoadedModel
int open_model(lua_State* L) {
  return guarded(L, [&] {
    push_handle(L, std::make_shared<LoadedModel>(to_value(L, 1, "plan"),
                                                 lua_isnoneornil(L, 2) ? "" : text_argument(L, 2, "a checkpoint")));
    return 1;
  });
}

std::vector<int32_t> id_list(const Value& list) {
  std::vector<int32_t> ids;
  for (const Value& id : list.as_list()) ids.push_back(static_cast<int32_t>(id.as_integer()));
  return ids;
}

GenerateOptions generate_options(const Value& given) {
  GenerateOptions options;
  options.max_new_tokens = given.get("max_new_tokens", options.max_new_tokens);
  options.temperature = given.get("temperature", options.temperature);
  options.top_k = given.get("top_k", options.top_k);
  options.top_p = given.get("top_p", options.top_p);
  options.seed = static_cast<uint64_t>(given.get("seed", 0));
  if (const Value* stop = given.find("stop")) options.stop = id_list(*stop);
  return options;
}

/// model:generate({ ids, … }, { max_new_tokens =, temperature =, top_k =, top_p =, seed =, stop = ids }) -> { new ids,
/// … }
int generate_ids(lua_State* L) {
  return guarded(L, [&] {
    const auto loaded = check_handle<LoadedModel>(L, 1);
    std::vector<std::vector<int32_t>> prompts;
    const Value given = to_value(L, 2, "prompts");
    for (const Value& prompt : given.as_list()) prompts.push_back(id_list(prompt));
    Value::List answers;
    for (const std::vector<int32_t>& answer :
         generate(*loaded->model, prompts, generate_options(to_value(L, 3, "generate"))))
      answers.emplace_back(Value::List(answer.begin(), answer.end()));
    push_value(L, Value(std::move(answers)));
    return 1;
  });
}

/// model:loss(rows, seq_len, micro, pad_id) -> { loss, tokens }
int loss(lua_State* L) {
  return guarded(L, [&] {
    const auto loaded = check_handle<LoadedModel>(L, 1);
    Split split{check_handle<TokenRows>(L, 2), {}};
    split.packing = make_packing(*split.rows, static_cast<int64_t>(number_argument(L, 3, "seq_len")), true);
    const Evaluation result = evaluate_loss(*loaded->model, split, static_cast<int64_t>(number_argument(L, 4, "micro")),
                                            static_cast<int64_t>(number_argument(L, 5, "pad_id")));
    push_value(L, Value::map({{"loss", result.loss}, {"tokens", result.tokens}}));
    return 1;
  });
}

/// model:parity(path of stored values) -> { loss, want_loss, logits or nil, gradients = { { name, distance }, … },
/// missing = { names } }
int parity(lua_State* L) {
  return guarded(L, [&] {
    const auto loaded = check_handle<LoadedModel>(L, 1);
    const Parity found = measure_parity(*loaded->model, SafetensorsFile(text_argument(L, 2, "a safetensors file")));
    Value::List gradients;
    for (const Parity::Gradient& one : found.gradients)
      gradients.push_back(Value::map({{"name", one.name}, {"distance", one.distance}}));
    Value result = Value::map({{"loss", found.loss},
                               {"want_loss", found.want_loss},
                               {"gradients", Value(std::move(gradients))},
                               {"missing", Value(Value::List(found.missing.begin(), found.missing.end()))}});
    if (found.logits) result.set("logits", *found.logits);
    push_value(L, result);
    return 1;
  });
}

}  // namespace

template <>
const HandleClass& handle_class<LoadedModel>() {
  static const HandleClass type{"LoadedModel", {{"generate", generate_ids}, {"loss", loss}, {"parity", parity}}};
  return type;
}

void bind_model(lua_State* L) {
  add_function(L, "model_facts", model_facts);
  add_function(L, "newest_checkpoint", newest);
  add_function(L, "open_model", open_model);
}

}  // namespace ft
