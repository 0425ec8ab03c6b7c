--- SmolLM3 (model_type "smollm3"), named as SmolLM3ForCausalLM names its weights: some layers, every fourth where the config
--- lists none, give tokens no positions.
local nn = require "ft.nn"

--- Whether layer i rotates queries and keys: no_rope_layers holds 1 for those that do.
local function rotates(config, i)
  if config.no_rope_layers then return config.no_rope_layers[i] ~= 0 end
  return i % (config.no_rope_layer_interval or 4) ~= 0
end

return function(config)
  local c = nn.decoder_config(config, {
    tie_word_embeddings = true, kv_heads = 4, positions = 32768, theta = 2e6,
    window = function(i, _, width)
      return width > 0 and not rotates(config, i) and "sliding_attention" or "full_attention"
    end,
  })
  local q_dim, kv_dim = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local function linear(name, from, to, bias)
    return nn.linear { name = name, ["in"] = from, out = to, bias = bias, init_std = c.std }
  end
  local function norm(name) return nn.rmsnorm { name = name, dim = c.dim, eps = c.eps } end

  local layers = {}
  for i = 1, c.layers do
    layers[i] = nn.chain {
      name = "model.layers." .. i - 1,
      nn.residual {
        norm "input_layernorm",
        nn.attention {
          name = "self_attn", heads = c.heads, kv_heads = c.kv_heads, head_dim = c.head_dim,
          rope = rotates(config, i) and c.rope, window = c.windows[i],
          q = linear("q_proj", c.dim, q_dim, c.attention_bias), k = linear("k_proj", c.dim, kv_dim, c.attention_bias),
          v = linear("v_proj", c.dim, kv_dim, c.attention_bias), o = linear("o_proj", q_dim, c.dim, c.attention_bias),
        },
      },
      nn.residual {
        norm "post_attention_layernorm",
        nn.swiglu {
          name = "mlp", gate = linear("gate_proj", c.dim, c.hidden, c.mlp_bias),
          up = linear("up_proj", c.dim, c.hidden, c.mlp_bias), down = linear("down_proj", c.hidden, c.dim, c.mlp_bias),
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
