--- Mistral (model_type "mistral"), named as MistralForCausalLM names its weights: every layer under one window, where the
--- config states a sliding_window.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, { tie_word_embeddings = false, kv_heads = 8, positions = 131072, window = "all" })
  local part = decoder_parts(c)
  return part.decoder(function(i)
    return {
      nn.residual { part.norm "input_layernorm", part.attention(i) },
      nn.residual { part.norm "post_attention_layernorm", part.swiglu() },
    }
  end)
end
