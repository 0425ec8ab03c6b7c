--- Qwen3-MoE (model_type "qwen3_moe"), named as its weights are on disk: Qwen3 with experts in the stead of the SwiGLU of the
--- layers that decoder_sparse_step and mlp_only_layers leave.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, {
    tie_word_embeddings = false, kv_heads = 4, positions = 32768, sliding_window = 4096,
    window = function(_, _, width) return width > 0 and "sliding_attention" or "full_attention" end,
  })
  local part = decoder_parts(c)

  local function experts_of(key, otherwise) return config[key] == 0 and 0 or c.count(key, 10000, otherwise) end
  local count = experts_of("num_experts", experts_of("num_local_experts", 128))
  local sparse_step = c.count("decoder_sparse_step", 10000, 1)
  local dense = {}
  for _, i in ipairs(config.mlp_only_layers or {}) do dense[i + 1] = true end
  local function feed_forward(i)
    if dense[i] or count == 0 or i % sparse_step ~= 0 then return part.swiglu() end
    local experts = {}
    for e = 1, count do
      experts[e] = part.swiglu { name = "experts." .. e - 1, hidden = config.moe_intermediate_size or 768 }
    end
    return nn.experts {
      name = "mlp", dim = c.dim, router = "gate", chosen = config.num_experts_per_tok or 8,
      normalize = config.norm_topk_prob or false, init_std = c.std, experts = experts,
      balance = config.output_router_logits and (config.router_aux_loss_coef or 0.001) or 0,
    }
  end

  return part.decoder(function(i)
    return {
      nn.residual {
        part.norm "input_layernorm",
        part.attention(i, {
          bias = c.attention_bias, q_norm = part.norm("q_norm", c.head_dim), k_norm = part.norm("k_norm", c.head_dim),
        }),
      },
      nn.residual { part.norm "post_attention_layernorm", feed_forward(i) },
    }
  end)
end
