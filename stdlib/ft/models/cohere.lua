--- Cohere's Command-R (model_type "cohere"), named as CohereForCausalLM names its weights: one norm with a mean before
--- attention and SwiGLU, which stand side by side, and each feature rotated with its neighbour.
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, {
    tie_word_embeddings = true, eps_key = "layer_norm_eps", eps = 1e-5, positions = 8192, theta = 5e5,
  })
  local q_dim, kv_dim = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local function linear(name, from, to, bias)
    return nn.linear { name = name, ["in"] = from, out = to, bias = bias, init_std = c.std }
  end
  local function norm(name, dim, heads) return nn.layernorm { name = name, dim = dim, heads = heads, eps = c.eps } end

  local layers = {}
  for i = 1, c.layers do
    layers[i] = nn.chain {
      name = "model.layers." .. i - 1,
      nn.residual {
        norm("input_layernorm", c.dim),
        nn.sum {
          nn.attention {
            name = "self_attn", heads = c.heads, kv_heads = c.kv_heads, head_dim = c.head_dim, rope = c.rope,
            interleaved = true,
            q = linear("q_proj", c.dim, q_dim, c.attention_bias), k = linear("k_proj", c.dim, kv_dim, c.attention_bias),
            v = linear("v_proj", c.dim, kv_dim, c.attention_bias), o = linear("o_proj", q_dim, c.dim, c.attention_bias),
            q_norm = config.use_qk_norm and norm("q_norm", c.head_dim, c.heads) or nil,
            k_norm = config.use_qk_norm and norm("k_norm", c.head_dim, c.kv_heads) or nil,
          },
          nn.swiglu {
            name = "mlp", gate = linear("gate_proj", c.dim, c.hidden), up = linear("up_proj", c.dim, c.hidden),
            down = linear("down_proj", c.hidden, c.dim),
          },
        },
      },
    }
  end
  return nn.decoder {
    embedding = nn.embedding { name = "model.embed_tokens", vocab = c.vocab, dim = c.dim, init_std = c.std },
    layers = layers,
    head = {
      norm = norm("model.norm", c.dim), tied = c.tied, output = not c.tied and linear("lm_head", c.dim, c.vocab) or nil,
      logit_scale = config.logit_scale or 0.0625,
    },
  }
end
