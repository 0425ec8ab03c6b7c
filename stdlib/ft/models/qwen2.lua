--- Qwen2 (model_type "qwen2"), named as Qwen2ForCausalLM names its weights: biases on queries, keys and values alone.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, {
    tie_word_embeddings = false, kv_heads = 32, positions = 32768, window = "by_layer", sliding_window = 4096,
  })
  local part = decoder_parts(c)
  return part.decoder(function(i)
    return {
      nn.residual {
        part.norm "input_layernorm", part.attention(i, { bias = true, o = part.linear("o_proj", c.q_dim, c.dim) }),
      },
      nn.residual { part.norm "post_attention_layernorm", part.swiglu() },
    }
  end)
end
