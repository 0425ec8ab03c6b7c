#include "engine/formats/lora_options.h"

namespace ft {

bool asks_for_something(const Value& value) {
  if (value.is_null()) return false;
  if (value.is_bool()) return value.as_bool();
  if (value.is_list()) return !value.as_list().empty();
  if (value.is_map()) return !value.as_map().empty();
  return true;
}

LoraOptions LoraOptions::read(const Value& adapter) {
  LoraOptions lora;
  lora.r = adapter.get("r", lora.r);
  lora.alpha = adapter.get("alpha", lora.alpha);
  lora.dropout = adapter.get("dropout", lora.dropout);
  lora.use_rslora = adapter.get("use_rslora", lora.use_rslora);
  lora.use_dora = adapter.get("use_dora", lora.use_dora);
  lora.lora_bias = adapter.get("lora_bias", lora.lora_bias);
  if (const Value* init = adapter.find("init_lora_weights"); init && init->is_string())
    lora.loftq = init->as_string() == "loftq";
  lora.ensure_weight_tying = adapter.get("ensure_weight_tying", lora.ensure_weight_tying);
  if (const Value* targets = adapter.find("target_modules"); targets && !targets->is_null())
    lora.target_modules = *targets;
  const std::pair<const char*, Value*> others[] = {
      {"exclude_modules", &lora.exclude_modules}, {"layers_to_transform", &lora.layers_to_transform},
      {"layers_pattern", &lora.layers_pattern},   {"rank_pattern", &lora.rank_pattern},
      {"alpha_pattern", &lora.alpha_pattern},     {"modules_to_save", &lora.modules_to_save}};
  for (const auto& [key, into] : others)
    if (const Value* value = adapter.find(key); value && asks_for_something(*value)) *into = *value;
  return lora;
}

}  // namespace ft
