--- Granite (model_type "granite"), named as GraniteForCausalLM names its weights: Llama with multipliers on embeddings,
--- residuals, scores and logits.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, { tie_word_embeddings = false, positions = 2048 })
  local part = decoder_parts(c)
  local residual_scale = config.residual_multiplier or 1.0
  return part.decoder(function(i)
    return {
      nn.residual {
        scale = residual_scale, part.norm "input_layernorm",
        part.attention(i, { bias = c.attention_bias, scale = config.attention_multiplier or 1.0 }),
      },
      nn.residual {
        scale = residual_scale, part.norm "post_attention_layernorm", part.swiglu { bias = c.mlp_bias },
      },
    }
  end, { scale = config.embedding_multiplier or 1.0, logit_scale = 1 / (config.logits_scaling or 1.0) })
end
