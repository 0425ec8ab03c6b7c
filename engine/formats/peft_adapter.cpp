#include "engine/formats/peft_adapter.h"

#include "engine/error/error.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

bool asks_for_something(const Value& value) {
  if (value.is_null()) return false;
  if (value.is_bool()) return value.as_bool();
  if (value.is_list()) return !value.as_list().empty();
  if (value.is_map()) return !value.as_map().empty();
  return true;
}

[[noreturn]] void refuse(const std::string& key, const Value& value, const std::string& want) {
  throw Error(ErrorKind::config, "got " + describe(value) + ", want " + want + ": the engine does not do it")
      .at(value.origin.str())
      .key(key);
}

Value plan_options(const Value& config) {
  Value options = Value::map();
  const auto take = [&](const char* key, const char* as) {
    if (const Value* value = config.find(key); value && !value->is_null()) options.set(as, *value);
  };
  take("r", "r");
  take("lora_alpha", "alpha");
  take("lora_dropout", "dropout");
  take("use_rslora", "use_rslora");
  take("target_modules", "target_modules");
  return options;
}

Value read_config(const std::filesystem::path& path) {
  Value config = read_json(path);
  check_peft_config(config);
  return config;
}

}  // namespace

void check_peft_config(const Value& config) {
  const std::string type = config.get("peft_type", "LORA");
  if (type != "LORA") refuse("peft_type", config.at("peft_type"), "LORA");
  if (const Value* bias = config.find("bias"); bias && !bias->is_null() && !(*bias == Value("none")))
    refuse("bias", *bias, "none");
  for (const auto& [key, value] : config.as_map())  // use_dora, use_qalora and those to come
    if (key.starts_with("use_") && key != "use_rslora" && asks_for_something(value)) refuse(key, value, "false");
  for (const char* key :
       {"fan_in_fan_out", "lora_bias", "rank_pattern", "alpha_pattern", "modules_to_save", "layers_to_transform",
        "layers_pattern", "exclude_modules", "layer_replication", "target_parameters", "trainable_token_indices"})
    if (const Value* value = config.find(key); value && asks_for_something(*value)) refuse(key, *value, "none");
  // Others than these begin by changing the base's weights (PiSSA, OLoRA, LoftQ, CorDA), which the file does not hold.
  if (const Value* init = config.find("init_lora_weights"); init && init->is_string())
    if (const std::string& name = init->as_string(); name != "gaussian" && name != "orthogonal" && name != "eva")
      refuse("init_lora_weights", *init, "true, false, gaussian, orthogonal or eva");
}

PeftAdapter::PeftAdapter(const std::filesystem::path& directory)
    : file_(directory / "adapter_model.safetensors"),
      options_(plan_options(read_config(directory / "adapter_config.json"))) {}

const TensorEntry* PeftAdapter::find(const std::string& parameter) const {
  return file_.find(std::string(kPeftPrefix) + parameter);
}

void PeftAdapter::read(const std::string& parameter, uint64_t byte_offset, std::span<std::byte> out) const {
  const TensorEntry* entry = find(parameter);
  FT_CHECK(entry, parameter + " is not in " + file_.path().string());
  file_.read(*entry, byte_offset, out);
}

void PeftAdapter::check_tensors(std::span<const ExpectedTensor> parameters) const {
  std::vector<ExpectedTensor> expected;
  for (const ExpectedTensor& parameter : parameters)
    expected.push_back({std::string(kPeftPrefix) + parameter.name, parameter.shape});
  std::vector<const TensorEntry*> tensors;
  for (const TensorEntry& entry : file_.entries()) tensors.push_back(&entry);
  try {
    compare_tensors(
        expected, tensors, [this](const std::string& name) { return file_.find(name); }, file_.path());
  } catch (Error& error) {
    throw error.help("do r and target_modules fit the adapter, and the adapter this model?");
  }
}

}  // namespace ft
