--- Granite (model_type "granite"), named as GraniteForCausalLM names its weights: Llama with multipliers on embeddings,
--- residuals, scores and logits.
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, { tie_word_embeddings = false, positions = 2048 })
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
        scale = config.residual_multiplier or 1.0,
        norm "input_layernorm",
        nn.attention {
          name = "self_attn", heads = c.heads, kv_heads = c.kv_heads, head_dim = c.head_dim, rope = c.rope,
          scale = config.attention_multiplier or 1.0,
          q = linear("q_proj", c.dim, q_dim, c.attention_bias), k = linear("k_proj", c.dim, kv_dim, c.attention_bias),
          v = linear("v_proj", c.dim, kv_dim, c.attention_bias), o = linear("o_proj", q_dim, c.dim, c.attention_bias),
        },
      },
      nn.residual {
        scale = config.residual_multiplier or 1.0,
        norm "post_attention_layernorm",
        nn.swiglu {
          name = "mlp", gate = linear("gate_proj", c.dim, c.hidden, c.mlp_bias),
          up = linear("up_proj", c.dim, c.hidden, c.mlp_bias), down = linear("down_proj", c.hidden, c.dim, c.mlp_bias),
        },
      },
    }
  end
  return nn.decoder {
    embedding = nn.embedding {
      name = "model.embed_tokens", vocab = c.vocab, dim = c.dim, init_std = c.std, scale = config.embedding_multiplier or 1.0,
    },
    layers = layers,
    head = {
      norm = norm "model.norm", tied = c.tied, output = not c.tied and linear("lm_head", c.dim, c.vocab) or nil,
      logit_scale = 1 / (config.logits_scaling or 1.0),
    },
  }
end
