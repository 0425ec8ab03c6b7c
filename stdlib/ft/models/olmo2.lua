--- OLMo 2 (model_type "olmo2"), named as Olmo2ForCausalLM names its weights: norms behind attention and SwiGLU, none before
--- them, and norms of all query and all key features at once.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, { eps = 1e-5, positions = 2048 })
  local part = decoder_parts(c)
  return part.decoder(function(i)
    return {
      nn.residual {
        part.attention(i, {
          bias = c.attention_bias, q_norm = part.norm("q_norm", c.q_dim), k_norm = part.norm("k_norm", c.kv_dim),
        }),
        part.norm "post_attention_layernorm",
      },
      nn.residual { part.swiglu(), part.norm "post_feedforward_layernorm" },
    }
  end)
end
