--- Mixtral (model_type "mixtral"), named as its weights are on disk: Mistral with experts in the stead of each layer's SwiGLU;
--- a token's two probabilities add up to 1.
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, { tie_word_embeddings = false, kv_heads = 8, positions = 131072, theta = 1e6, eps = 1e-5,
    window = "all" })
  if (config.router_jitter_noise or 0) ~= 0 then c.refuse("router_jitter_noise", config.router_jitter_noise, "0") end
  local q_dim, kv_dim = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local function linear(name, from, to)
    return nn.linear { name = name, ["in"] = from, out = to, init_std = c.std }
  end
  local function norm(name) return nn.rmsnorm { name = name, dim = c.dim, eps = c.eps } end
  local function experts()
    local made = {}
    for e = 1, config.num_local_experts or 8 do
      made[e] = nn.swiglu {
        name = "experts." .. e - 1, gate = linear("w1", c.dim, c.hidden), up = linear("w3", c.dim, c.hidden),
        down = linear("w2", c.hidden, c.dim),
      }
    end
    return made
  end

  local layers = {}
  for i = 1, c.layers do
    layers[i] = nn.chain {
      name = "model.layers." .. i - 1,
      nn.residual {
        norm "input_layernorm",
        nn.attention {
          name = "self_attn", heads = c.heads, kv_heads = c.kv_heads, head_dim = c.head_dim, rope = c.rope,
          window = c.windows[i],
          q = linear("q_proj", c.dim, q_dim), k = linear("k_proj", c.dim, kv_dim),
          v = linear("v_proj", c.dim, kv_dim), o = linear("o_proj", q_dim, c.dim),
        },
      },
      nn.residual {
        norm "post_attention_layernorm",
        nn.experts {
          name = "block_sparse_moe", dim = c.dim, router = "gate", chosen = config.num_experts_per_tok or 2, normalize = true,
          balance = config.output_router_logits and (config.router_aux_loss_coef or 0.001) or 0, init_std = c.std,
          experts = experts(),
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
