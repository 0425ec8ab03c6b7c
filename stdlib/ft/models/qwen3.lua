--- Qwen3 (model_type "qwen3"), named as Qwen3ForCausalLM names its weights: heads of a width of their own, each normed.
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, { tie_word_embeddings = false, head_dim = 128, kv_heads = 32, positions = 32768,
    window = "by_layer", sliding_window = 4096 })
  local q_dim, kv_dim = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local function linear(name, from, to, bias)
    return nn.linear { name = name, ["in"] = from, out = to, bias = bias, init_std = c.std }
  end
  local function norm(name, dim) return nn.rmsnorm { name = name, dim = dim or c.dim, eps = c.eps } end

  local layers = {}
  for i = 1, c.layers do
    layers[i] = nn.chain {
      name = "model.layers." .. i - 1,
      nn.residual {
        norm "input_layernorm",
        nn.attention {
          name = "self_attn", heads = c.heads, kv_heads = c.kv_heads, head_dim = c.head_dim, rope = c.rope,
          window = c.windows[i],
          q = linear("q_proj", c.dim, q_dim, c.attention_bias), k = linear("k_proj", c.dim, kv_dim, c.attention_bias),
          v = linear("v_proj", c.dim, kv_dim, c.attention_bias), o = linear("o_proj", q_dim, c.dim, c.attention_bias),
          q_norm = norm("q_norm", c.head_dim), k_norm = norm("k_norm", c.head_dim),
        },
      },
      nn.residual {
        norm "post_attention_layernorm",
        nn.swiglu {
          name = "mlp", gate = linear("gate_proj", c.dim, c.hidden),
          up = linear("up_proj", c.dim, c.hidden), down = linear("down_proj", c.hidden, c.dim),
        },
      },
    }
  end
  return nn.decoder {
    embedding = nn.embedding { name = "model.embed_tokens", vocab = c.vocab, dim = c.dim, init_std = c.std },
    layers = layers,
    head = { norm = norm "model.norm", tied = c.tied, output = not c.tied and linear("lm_head", c.dim, c.vocab) or nil },
  }
end
