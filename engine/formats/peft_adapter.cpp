#include "engine/formats/peft_adapter.h"

#include <set>

#include "engine/error/error.h"
#include "engine/formats/json.h"

namespace ft {
namespace {

// The base's own table, which PEFT writes beside an adapter on embeddings.
constexpr std::string_view kBaseLayer = ".base_layer.weight";

[[noreturn]] void refuse(const std::string& key, const Value& value, const std::string& want,
                         const std::string& help = "") {
  Error error(ErrorKind::config, "got " + describe(value) + ", want " + want + ": the engine does not do it");
  error.at(value.origin.str()).key(key);
  if (!help.empty()) error.help(help);
  throw error;
}

std::filesystem::path tensors_of(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / "adapter_model.safetensors", older = directory / "adapter_model.bin";
  if (!std::filesystem::exists(file) && std::filesystem::exists(older))
    throw Error(ErrorKind::config, "holds an adapter as PEFT wrote them before safetensors, which is not read")
        .at(older.string())
        .help("load it in PEFT and write it by save_pretrained: that makes adapter_model.safetensors");
  return file;
}

Value read_config(const std::filesystem::path& path) {
  Value config = read_json(path);
  check_peft_config(config);
  return config;
}

}  // namespace

Value plan_options(const Value& config) {
  Value options = Value::map();
  // Where the file is silent PEFT's own values hold, which are not those of a plan.
  const auto take = [&](const char* key, const char* as, const Value& otherwise) {
    const Value* value = config.find(key);
    const Value& taken = value && !value->is_null() ? *value : otherwise;
    if (!taken.is_null()) options.set(as, taken);
  };
  take("r", "r", 8);
  take("lora_alpha", "alpha", 8);
  take("lora_dropout", "dropout", {});
  take("use_rslora", "use_rslora", false);
  take("target_modules", "target_modules", {});
  for (const char* key : {"use_dora", "lora_bias", "ensure_weight_tying", "exclude_modules", "layers_to_transform",
                          "layers_pattern", "rank_pattern", "alpha_pattern", "modules_to_save"})
    if (const Value* value = config.find(key); value && asks_for_something(*value)) options.set(key, *value);
  if (goes_with_nf4(config)) options.set("init_lora_weights", "loftq");
  return options;
}

bool goes_with_nf4(const Value& config) {
  const Value* start = config.find("loftq_config");
  return start && asks_for_something(*start);
}

void check_peft_config(const Value& config) {
  const std::string type = config.get("peft_type", "LORA");
  if (type != "LORA") refuse("peft_type", config.at("peft_type"), "LORA");
  if (const Value* bias = config.find("bias"); bias && !bias->is_null() && !(*bias == Value("none")))
    refuse("bias", *bias, "none");
  if (config.get("use_dora", false) && config.get("lora_bias", false))
    refuse("lora_bias", config.at("lora_bias"), "false with use_dora");
  // What plan_options reads, and what says nothing of how the matrices are used.
  static const std::set<std::string> known{"r",
                                           "lora_alpha",
                                           "lora_dropout",
                                           "use_rslora",
                                           "target_modules",
                                           "use_dora",
                                           "lora_bias",
                                           "ensure_weight_tying",
                                           "exclude_modules",
                                           "layers_to_transform",
                                           "layers_pattern",
                                           "rank_pattern",
                                           "alpha_pattern",
                                           "modules_to_save",
                                           "peft_type",
                                           "bias",
                                           "init_lora_weights",
                                           "task_type",
                                           "auto_mapping",
                                           "peft_version",
                                           "base_model_name_or_path",
                                           "revision",
                                           "inference_mode",
                                           "runtime_config",
                                           "megatron_core",
                                           "eva_config",
                                           "corda_config",
                                           "lora_ga_config",
                                           "loftq_config"};
  for (const auto& [key, value] : config.as_map())
    // A number alone asks for nothing: it goes with a switch beside it (qalora_group_size with use_qalora).
    if (!known.contains(key) && !value.is_number() && asks_for_something(value)) refuse(key, value, "none");
  // Others than these begin by changing the base's weights (PiSSA, OLoRA, LoftQ, CorDA), which the file does not hold.
  if (const Value* init = config.find("init_lora_weights"); init && init->is_string())
    if (const std::string& name = init->as_string(); name != "gaussian" && name != "orthogonal" && name != "eva")
      refuse("init_lora_weights", *init, "true, false, gaussian, orthogonal or eva",
             "its base has other weights than the model on disk; PEFT's save_pretrained(…, "
             "path_initial_model_for_weight_conversion=…) writes an adapter that goes with those");
}

PeftAdapter::PeftAdapter(const std::filesystem::path& directory)
    : file_(tensors_of(directory)), options_(plan_options(read_config(directory / "adapter_config.json"))) {}

const TensorEntry* PeftAdapter::find(const std::string& parameter) const {
  return file_.find(std::string(kPeftPrefix) + parameter);
}

const TensorEntry* PeftAdapter::base_table(const std::string& parameter) const {
  constexpr std::string_view kWeight = ".weight";
  if (!parameter.ends_with(kWeight)) return nullptr;
  const std::string module = parameter.substr(0, parameter.size() - kWeight.size());
  return file_.find(std::string(kPeftPrefix) + module + std::string(kBaseLayer));
}

void PeftAdapter::check_tensors(std::span<const ExpectedTensor> parameters) const {
  std::vector<ExpectedTensor> expected;
  for (const ExpectedTensor& parameter : parameters)
    expected.push_back({std::string(kPeftPrefix) + parameter.name, parameter.shape, parameter.optional});
  std::vector<const TensorEntry*> tensors;
  for (const TensorEntry& entry : file_.entries())
    if (!entry.name.ends_with(kBaseLayer)) tensors.push_back(&entry);
  try {
    compare_tensors(
        expected, tensors, [this](const std::string& name) { return file_.find(name); }, file_.path());
  } catch (Error& error) {
    throw error.help("do r and target_modules fit the adapter, and the adapter this model?");
  }
}

}  // namespace ft
