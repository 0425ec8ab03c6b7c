#include "engine/formats/trainer_order.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "engine/formats/peft_names.h"

namespace ft {
namespace {

constexpr std::string_view kTypes[] = {"cohere", "gemma2", "gemma3_text", "granite", "llama",     "mistral", "mixtral",
                                       "olmo2",  "phi3",   "qwen2",       "qwen3",   "qwen3_moe", "smollm3"};

// One order holds for all of these: a model that has not all of the modules has the others in it.
constexpr std::string_view kLayers = "model.layers.";
constexpr std::string_view kOfLayer[] = {"self_attn.q_proj",
                                         "self_attn.k_proj",
                                         "self_attn.v_proj",
                                         "self_attn.o_proj",
                                         "self_attn.qkv_proj",
                                         "self_attn.q_norm",
                                         "self_attn.k_norm",
                                         "mlp.gate_proj",
                                         "mlp.up_proj",
                                         "mlp.gate_up_proj",
                                         "mlp.down_proj",
                                         "input_layernorm",
                                         "post_attention_layernorm",
                                         "pre_feedforward_layernorm",
                                         "post_feedforward_layernorm"};
constexpr std::string_view kBefore[] = {"model.embed_tokens"}, kAfter[] = {"model.norm", "lm_head"};
// The longer endings first: "lora_A.weight" ends in "weight", too.
constexpr std::pair<std::string_view, int64_t> kParts[] = {{".lora_A.weight", 2}, {".lora_B.weight", 3},
                                                           {".lora_B.bias", 4},   {".lora_magnitude_vector", 5},
                                                           {".weight", 0},        {".bias", 1}};

// Before the layers, in one, or after them; the layer; the module; the part of it.
using Place = std::array<int64_t, 4>;

template <size_t N>
std::optional<int64_t> number_in(const std::string_view (&list)[N], std::string_view name) {
  const auto* found = std::find(std::begin(list), std::end(list), name);
  return found == std::end(list) ? std::nullopt : std::optional<int64_t>(found - std::begin(list));
}

std::optional<Place> place_of(std::string_view name) {
  const auto* part = std::find_if(std::begin(kParts), std::end(kParts),
                                  [&](const auto& known) { return name.ends_with(known.first); });
  if (part == std::end(kParts)) return std::nullopt;
  name.remove_suffix(part->first.size());
  if (const auto module = number_in(kBefore, name)) return Place{0, 0, *module, part->second};
  if (const auto module = number_in(kAfter, name)) return Place{2, 0, *module, part->second};
  if (!name.starts_with(kLayers)) return std::nullopt;
  int64_t layer = 0;
  const auto read = std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
  if (read.ec != std::errc() || read.ptr == name.data() + name.size()) return std::nullopt;
  const auto module = number_in(kOfLayer, name.substr(static_cast<size_t>(read.ptr - name.data()) + 1));
  return module ? std::optional(Place{1, layer, *module, part->second}) : std::nullopt;
}

// Norms, by their names, and biases.
bool decays(std::string_view name) { return name.find("norm") == std::string_view::npos && !name.ends_with("bias"); }

}  // namespace

std::optional<std::vector<std::vector<std::string>>> trainer_groups(const std::vector<std::string>& trained,
                                                                    const std::string& model_type) {
  if (!number_in(kTypes, model_type)) return std::nullopt;
  std::vector<std::pair<Place, std::string>> places;
  size_t of_adapters = 0;
  for (const std::string& name : trained) {
    const auto place = place_of(name);
    if (!place) return std::nullopt;
    of_adapters += is_lora_name(name);
    places.emplace_back(*place, name);
  }
  if (of_adapters != 0 && of_adapters != trained.size()) return std::nullopt;
  std::sort(places.begin(), places.end());
  std::vector<std::vector<std::string>> groups(2);
  for (auto& [place, name] : places) groups[decays(name) ? 0 : 1].push_back(std::move(name));
  return groups;
}

}  // namespace ft
