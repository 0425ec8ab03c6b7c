--- Mixtral (model_type "mixtral"), named as its weights are on disk: Mistral with experts in the stead of each layer's SwiGLU;
--- a token's two probabilities add up to 1.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, { tie_word_embeddings = false, kv_heads = 8, positions = 131072, theta = 1e6, eps = 1e-5,
    window = "all" })
  if (config.router_jitter_noise or 0) ~= 0 then c.refuse("router_jitter_noise", config.router_jitter_noise, "0") end
  local part = decoder_parts(c)
  local function experts()
    local made = {}
    for e = 1, c.count("num_local_experts", 10000, 8) do
      made[e] = nn.swiglu {
        name = "experts." .. e - 1, gate = part.linear("w1", c.dim, c.hidden), up = part.linear("w3", c.dim, c.hidden),
        down = part.linear("w2", c.hidden, c.dim),
      }
    end
    return made
  end
  return part.decoder(function(i)
    return {
      nn.residual { part.norm "input_layernorm", part.attention(i) },
      nn.residual {
        part.norm "post_attention_layernorm",
        nn.experts {
          name = "block_sparse_moe", dim = c.dim, router = "gate", chosen = config.num_experts_per_tok or 2, normalize = true,
          balance = config.output_router_logits and (config.router_aux_loss_coef or 0.001) or 0, init_std = c.std,
          experts = experts(),
        },
      },
    }
  end)
end
