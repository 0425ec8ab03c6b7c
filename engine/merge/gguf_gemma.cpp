#include "engine/merge/gguf_gemma.h"

#include <algorithm>

#include "engine/error/error.h"

namespace ft {
namespace {

// transformers' defaults, Gemma2Config and Gemma3TextConfig.
constexpr int64_t kHeadDim = 256, kScalar = 256, kWindow = 4096;
constexpr double kWholeTheta = 1e6, kLocalTheta = 1e4;

[[noreturn]] void refuse(const char* key, const std::string& got, const std::string& want) {
  throw Error(ErrorKind::config, "got " + got + ", want " + want + ": llama.cpp takes that for granted")
      .key(key)
      .help("--format huggingface");
}

// Layer i of llama.cpp's graph (src/models: set_swa_pattern(2), set_swa_pattern(6)).
void check_windows(const Value& config, int64_t period) {
  const auto whole = [&](int64_t i) { return (i + 1) % period == 0; };
  if (const Value* types = config.find("layer_types"); types && types->is_list()) {
    for (size_t i = 0; i < types->as_list().size(); ++i)
      if ((types->as_list()[i].as_string() == "full_attention") != whole(static_cast<int64_t>(i)))
        refuse("layer_types", types->as_list()[i].as_string() + " of layer " + std::to_string(i),
               "whole attention in each " + std::to_string(period) + "th layer, windows in the others");
  } else if (const int64_t stated = config.get("sliding_window_pattern", period); stated != period) {
    refuse("sliding_window_pattern", std::to_string(stated), std::to_string(period));
  }
}

// Scores are scaled by head_dim^-0.5, or by (hidden_size / heads)^-0.5 in the models of 27 billion, known by their
// layers.
void check_scale(const Value& config, int64_t largest_layers) {
  const int64_t heads = config.at("num_attention_heads").as_integer();
  const int64_t want = config.at("num_hidden_layers").as_integer() == largest_layers
                           ? config.at("hidden_size").as_integer() / std::max<int64_t>(heads, 1)
                           : config.get("head_dim", kHeadDim);
  const double got = config.get("query_pre_attn_scalar", static_cast<double>(kScalar));
  if (got != static_cast<double>(want)) refuse("query_pre_attn_scalar", std::to_string(got), std::to_string(want));
}

// The rotation of layers without a window; that of the others must be the one that is built in.
Value whole_rotation(const Value& config) {
  const Value* five = config.find("rope_parameters");
  const auto of = [&](const char* kind) {
    const Value* own = five && five->is_map() ? five->find(kind) : nullptr;
    return own && own->is_map() ? own : nullptr;
  };
  const Value* windows = of("sliding_attention");
  const double local =
      windows ? windows->get("rope_theta", kLocalTheta) : config.get("rope_local_base_freq", kLocalTheta);
  if (local != kLocalTheta) refuse("rope_local_base_freq", std::to_string(local), std::to_string(kLocalTheta));
  if (windows && windows->get("rope_type", "default") != "default")
    refuse("rope_parameters.sliding_attention", windows->get("rope_type", ""), "default");
  const Value* four = config.find("rope_scaling");
  Value rotation = of("full_attention") ? *of("full_attention") : four && four->is_map() ? *four : Value::map();
  if (!rotation.find("rope_theta")) rotation.set("rope_theta", config.get("rope_theta", kWholeTheta));
  return rotation;
}

}  // namespace

std::string gemma_architecture(std::string_view model_type) {
  return model_type == "gemma2" ? "gemma2" : model_type == "gemma3_text" ? "gemma3" : "";
}

Value gemma_config(const Value& config) {
  const bool third = config.get("model_type", "") == "gemma3_text";
  check_windows(config, third ? 6 : 2);
  check_scale(config, third ? 62 : 46);
  if (!config.get("tie_word_embeddings", true)) refuse("tie_word_embeddings", "false", "true");
  const Value* cap = config.find("attn_logit_softcapping");
  if (third ? cap && !cap->is_null() : cap && cap->is_null())
    refuse("attn_logit_softcapping", third ? "a number" : "null", third ? "none" : "a number");
  Value made = config;
  made.set("head_dim", config.get("head_dim", kHeadDim));
  if (third) made.set("rope_parameters", whole_rotation(config));
  return made;
}

void put_gemma(GgufKeys& keys, const Value& config) {
  const bool third = config.get("model_type", "") == "gemma3_text";
  const std::string prefix = gemma_architecture(config.get("model_type", "")) + ".";
  keys.put(prefix + "attention.sliding_window", static_cast<uint32_t>(config.get("sliding_window", kWindow)));
  if (!third)
    keys.put(prefix + "attn_logit_softcapping", static_cast<float>(config.get("attn_logit_softcapping", 50.0)));
  if (const double cap = config.get("final_logit_softcapping", third ? 0.0 : 30.0); cap > 0)
    keys.put(prefix + "final_logit_softcapping", static_cast<float>(cap));
}

}  // namespace ft
