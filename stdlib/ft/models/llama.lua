--- Llama (model_type "llama"), named as LlamaForCausalLM names its weights.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, { tie_word_embeddings = false, positions = 2048 })
  local part = decoder_parts(c)
  return part.decoder(function(i)
    return {
      nn.residual { part.norm "input_layernorm", part.attention(i, { bias = c.attention_bias }) },
      nn.residual { part.norm "post_attention_layernorm", part.swiglu { bias = c.mlp_bias } },
    }
  end)
end
