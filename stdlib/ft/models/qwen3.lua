--- Qwen3 (model_type "qwen3"), named as Qwen3ForCausalLM names its weights: heads of a width of their own, each normed.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, { tie_word_embeddings = false, head_dim = 128, kv_heads = 32, positions = 32768,
    window = "by_layer", sliding_window = 4096 })
  local part = decoder_parts(c)
  return part.decoder(function(i)
    return {
      nn.residual {
        part.norm "input_layernorm",
        part.attention(i, {
          bias = c.attention_bias, q_norm = part.norm("q_norm", c.head_dim), k_norm = part.norm("k_norm", c.head_dim),
        }),
      },
      nn.residual { part.norm "post_attention_layernorm", part.swiglu() },
    }
  end)
end
