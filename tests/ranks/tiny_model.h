#pragma once
/// A decoder small enough to train in milliseconds, with every kind of parameter: grouped heads, head norms, odd
/// widths.

#include <string>
#include <vector>

#include "engine/schema/value.h"

namespace ft::test {

inline Value linear(const char* name, int64_t in, int64_t out) {
  return Value::map({{"type", "linear"}, {"name", name}, {"in", in}, {"out", out}, {"init_std", 0.08}});
}

inline Value rmsnorm(const std::string& name, int64_t dim) {
  return Value::map({{"type", "rmsnorm"}, {"name", name}, {"dim", dim}, {"eps", 1e-6}});
}

inline Value residual(Value norm, Value block) {
  return Value::map({{"type", "residual"}, {"blocks", Value::list({std::move(norm), std::move(block)})}});
}

struct TinySizes {
  int64_t vocab = 97, dim = 48, heads = 4, kv_heads = 2, head_dim = 16;
  std::vector<int64_t> hidden = {88, 88};  ///< of each layer's MLP
};

/// Matrices of 16x15, 8x15, 7x15, 15x3 and the like: no rank's part ends with a row.
inline TinySizes uneven_sizes() { return {.dim = 15, .heads = 2, .kv_heads = 1, .head_dim = 8, .hidden = {7, 3}}; }

/// Qwen3's layout: what stdlib/ft/models/qwen3.lua states, for these sizes.
inline Value tiny_decoder(bool tied, const TinySizes& sizes = {}) {
  const auto& [vocab, dim, heads, kv_heads, head_dim, hiddens] = sizes;
  Value blocks = Value::list();
  for (size_t i = 0; i < hiddens.size(); ++i) {
    const int64_t hidden = hiddens[i];
    Value attention = Value::map({{"type", "attention"},
                                  {"name", "self_attn"},
                                  {"heads", heads},
                                  {"kv_heads", kv_heads},
                                  {"head_dim", head_dim},
                                  {"rope", Value::map({{"theta", 10000.0}})},
                                  {"q", linear("q_proj", dim, heads * head_dim)},
                                  {"k", linear("k_proj", dim, kv_heads * head_dim)},
                                  {"v", linear("v_proj", dim, kv_heads * head_dim)},
                                  {"o", linear("o_proj", heads * head_dim, dim)},
                                  {"q_norm", rmsnorm("q_norm", head_dim)},
                                  {"k_norm", rmsnorm("k_norm", head_dim)}});
    Value mlp = Value::map({{"type", "swiglu"},
                            {"name", "mlp"},
                            {"gate", linear("gate_proj", dim, hidden)},
                            {"up", linear("up_proj", dim, hidden)},
                            {"down", linear("down_proj", hidden, dim)}});
    blocks.as_list().push_back(
        Value::map({{"type", "chain"},
                    {"name", "model.layers." + std::to_string(i)},
                    {"blocks", Value::list({residual(rmsnorm("input_layernorm", dim), std::move(attention)),
                                            residual(rmsnorm("post_attention_layernorm", dim), std::move(mlp))})}}));
  }
  Value head = Value::map({{"norm", rmsnorm("model.norm", dim)}});
  if (tied) {
    head.set("tied", true);
  } else {
    head.set("output", linear("lm_head", dim, vocab));
  }
  return Value::map({{"type", "decoder"},
                     {"embedding", Value::map({{"type", "embedding"},
                                               {"name", "model.embed_tokens"},
                                               {"vocab", vocab},
                                               {"dim", dim},
                                               {"init_std", 0.1}})},
                     {"layers", std::move(blocks)},
                     {"head", std::move(head)}});
}

}  // namespace ft::test
