// A model for inference and for the plan's facts: the same objects that a run trains, on this process alone.
#include <lua.hpp>

#include "engine/error/error.h"
#include "engine/train/sharded_model.h"
#include "lua/bind/native.h"
#include "lua/boundary/guarded.h"
#include "lua/boundary/values.h"

namespace ft {
namespace {

/// native.model_facts(plan) -> { trainable, all, layers, adapted = { names } }; builds the tree, allocates nothing.
int model_facts(lua_State* L) {
  return guarded(L, [&] {
    const Value plan = to_value(L, 1, "plan");
    const auto lora = lora_options(plan);
    const Value& described = plan.at("model");
    ModelOptions options;
    options.quantize_nf4 = described.get("quantize", "none") == "nf4";
    options.double_quant = described.get("double_quant", true);
    options.lora = lora ? &*lora : nullptr;
    Model model(described.at("description"), options);
    int64_t trainable = 0, all = 0;
    for (const Parameter* parameter : model.parameters()) {
      all += parameter->numel();
      if (parameter->storage == Storage::trainable) trainable += parameter->numel();
    }
    Value::List adapted(model.adapted().begin(), model.adapted().end());
    push_value(L, Value::map({{"trainable", trainable},
                              {"all", all},
                              {"layers", model.num_layers()},
                              {"adapted", Value(std::move(adapted))}}));
    return 1;
  });
}

}  // namespace

void bind_model(lua_State* L) { add_function(L, "model_facts", model_facts); }

}  // namespace ft
