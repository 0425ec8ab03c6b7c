--- Qwen3-MoE (model_type "qwen3_moe"), named as its weights are on disk: Qwen3 with experts in the stead of the SwiGLU of the
--- layers that decoder_sparse_step and mlp_only_layers leave.
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, {
    tie_word_embeddings = false, kv_heads = 4, positions = 32768, sliding_window = 4096,
    window = function(_, _, width) return width > 0 and "sliding_attention" or "full_attention" end,
  })
  local q_dim, kv_dim = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local function linear(name, from, to, bias)
    return nn.linear { name = name, ["in"] = from, out = to, bias = bias, init_std = c.std }
  end
  local function norm(name, dim) return nn.rmsnorm { name = name, dim = dim or c.dim, eps = c.eps } end
  local function swiglu(name, hidden)
    return nn.swiglu {
      name = name, gate = linear("gate_proj", c.dim, hidden), up = linear("up_proj", c.dim, hidden),
      down = linear("down_proj", hidden, c.dim),
    }
  end

  local count = config.num_experts or config.num_local_experts or 128
  local dense = {}
  for _, i in ipairs(config.mlp_only_layers or {}) do dense[i + 1] = true end
  local function feed_forward(i)
    if dense[i] or count == 0 or i % (config.decoder_sparse_step or 1) ~= 0 then return swiglu("mlp", c.hidden) end
    local experts = {}
    for e = 1, count do experts[e] = swiglu("experts." .. e - 1, config.moe_intermediate_size or 768) end
    return nn.experts {
      name = "mlp", dim = c.dim, router = "gate", chosen = config.num_experts_per_tok or 8,
      normalize = config.norm_topk_prob or false, init_std = c.std, experts = experts,
      balance = config.output_router_logits and (config.router_aux_loss_coef or 0.001) or 0,
    }
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
          q = linear("q_proj", c.dim, q_dim, c.attention_bias), k = linear("k_proj", c.dim, kv_dim, c.attention_bias),
          v = linear("v_proj", c.dim, kv_dim, c.attention_bias), o = linear("o_proj", q_dim, c.dim, c.attention_bias),
          q_norm = norm("q_norm", c.head_dim), k_norm = norm("k_norm", c.head_dim),
        },
      },
      nn.residual { norm "post_attention_layernorm", feed_forward(i) },
    }
  end
  return nn.decoder {
    embedding = nn.embedding { name = "model.embed_tokens", vocab = c.vocab, dim = c.dim, init_std = c.std },
    layers = layers,
    head = { norm = norm "model.norm", tied = c.tied, output = not c.tied and linear("lm_head", c.dim, c.vocab) or nil },
  }
end
