--- Cohere's Command-R (model_type "cohere"), named as CohereForCausalLM names its weights: one norm with a mean before
--- attention and SwiGLU, which stand side by side, and each feature rotated with its neighbour.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, {
    tie_word_embeddings = true, eps_key = "layer_norm_eps", eps = 1e-5, positions = 8192, theta = 5e5,
  })
  local function norm(name, dim, heads) return nn.layernorm { name = name, dim = dim, heads = heads, eps = c.eps } end
  local part = decoder_parts(c, norm)
  return part.decoder(function(i)
    return {
      nn.residual {
        part.norm "input_layernorm",
        nn.sum {
          part.attention(i, {
            bias = c.attention_bias, interleaved = true,
            q_norm = config.use_qk_norm and norm("q_norm", c.head_dim, c.heads) or nil,
            k_norm = config.use_qk_norm and norm("k_norm", c.head_dim, c.kv_heads) or nil,
          }),
          part.swiglu(),
        },
      },
    }
  end, { logit_scale = config.logit_scale or 0.0625 })
end
