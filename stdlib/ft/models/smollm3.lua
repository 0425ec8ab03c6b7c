--- SmolLM3 (model_type "smollm3"), named as SmolLM3ForCausalLM names its weights: some layers, every fourth where the config
--- lists none, give tokens no positions.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

--- Whether layer i rotates queries and keys: no_rope_layers holds 1 for those that do.
local function rotates(config, i)
  if config.no_rope_layers then return config.no_rope_layers[i] ~= 0 end
  return i % (config.no_rope_layer_interval or 4) ~= 0
end

return function(config)
  local c = nn.decoder_config(config, {
    tie_word_embeddings = true, kv_heads = 4, positions = 32768, theta = 2e6,
    window = function(i, _, width)
      return width > 0 and not rotates(config, i) and "sliding_attention" or "full_attention"
    end,
  })
  local part = decoder_parts(c)
  return part.decoder(function(i)
    return {
      nn.residual {
        part.norm "input_layernorm",
        part.attention(i, { bias = c.attention_bias, rope = rotates(config, i) and c.rope }),
      },
      nn.residual { part.norm "post_attention_layernorm", part.swiglu { bias = c.mlp_bias } },
    }
  end)
end
