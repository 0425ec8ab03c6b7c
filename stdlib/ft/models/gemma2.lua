--- Gemma 2 (model_type "gemma2"), named as Gemma2ForCausalLM names its weights: norms before and behind each block, with
--- weights around 0; scaled embeddings; GELU; every other layer under a window; scores and logits that are capped.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

return function(config, nulls)
  local c = nn.decoder_config(config, {
    tie_word_embeddings = true, kv_heads = 4, head_dim = 256, positions = 8192,
    activation_key = "hidden_activation", activation = "gelu_pytorch_tanh", always_slides = true, sliding_window = 4096,
    window = function(i) return i % 2 == 1 and "sliding_attention" or "full_attention" end,
  })
  if config.use_bidirectional_attention then c.refuse("use_bidirectional_attention", "true", "false") end
  --- transformers caps where the key is absent, and does not where it is null.
  local function cap(key, usual)
    if config[key] == nil then return not nulls[key] and usual or nil end
    return config[key] ~= 0 and config[key] or nil
  end
  local part = decoder_parts(c, function(name, dim)
    return nn.rmsnorm { name = name, dim = dim, eps = c.eps, offset = 1 }
  end)
  return part.decoder(function(i)
    return {
      nn.residual {
        part.norm "input_layernorm",
        part.attention(i, {
          bias = c.attention_bias, scale = (config.query_pre_attn_scalar or 256) ^ -0.5,
          softcap = cap("attn_logit_softcapping", 50.0),
        }),
        part.norm "post_attention_layernorm",
      },
      nn.residual {
        part.norm "pre_feedforward_layernorm", part.swiglu { activation = "gelu_tanh" },
        part.norm "post_feedforward_layernorm",
      },
    }
  end, { scale = math.sqrt(c.dim), softcap = cap("final_logit_softcapping", 30.0) })
end
