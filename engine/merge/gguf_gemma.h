#pragma once
/// What GGUF has otherwise of Gemma 2 and 3 than of other decoders: norms with their offset added, four to a layer,
/// caps and windows. What llama.cpp takes for granted of them (which layers have a window, how scores are scaled, the
/// windows' own rotation) is held to the config here, since no key says it. Used by gguf_model.cpp alone; no state.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "engine/formats/gguf.h"
#include "engine/schema/value.h"

namespace ft {

/// llama.cpp's name of a config's model_type; empty for one that is no Gemma of these.
std::string gemma_architecture(std::string_view model_type);

/// A layer's modules that are called otherwise there; what is not among them goes by the names of all decoders.
inline constexpr std::pair<std::string_view, std::string_view> kGemmaLayer[] = {
    {"post_attention_layernorm", "post_attention_norm"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"}};

/// The config with one rotation, that of layers without a window, under `rope_parameters`, and head_dim stated.
/// @throws Error(config) for what llama.cpp's graph of the architecture would compute otherwise, by its key.
Value gemma_config(const Value& config);

/// Caps and window.   @param config as gemma_config gave it
void put_gemma(GgufKeys& keys, const Value& config);

}  // namespace ft
