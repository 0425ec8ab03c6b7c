--- Gemma 3's text model (model_type "gemma3_text"), named as Gemma3ForCausalLM names its weights: Gemma 2 with normed heads,
--- five layers of six under a window, and those rotated by a base of their own.
local decoder_parts = require "ft.decoder_parts"
local nn = require "ft.nn"

--- The two rotations as two configs: rope_parameters for each kind of layer (transformers 5), or rope_theta with rope_scaling
--- for whole attention and rope_local_base_freq for windows (transformers 4).
local function rotations(config)
  local five = config.rope_parameters or {}
  local function of(kind, parameters, theta)
    local stated = five[kind] or parameters or {}
    return setmetatable({ rope_scaling = stated, rope_theta = stated.rope_theta or theta, rope_parameters = false },
      { __index = config })
  end
  return of("full_attention", config.rope_scaling, config.rope_theta or 1e6),
    of("sliding_attention", nil, config.rope_local_base_freq or 1e4)
end

return function(config)
  local whole, local_ = rotations(config)
  local defaults = {
    tie_word_embeddings = true, kv_heads = 4, head_dim = 256, positions = 131072,
    activation_key = "hidden_activation", activation = "gelu_pytorch_tanh", always_slides = true, sliding_window = 4096,
    window = function(i)
      return i % (config.sliding_window_pattern or 6) ~= 0 and "sliding_attention" or "full_attention"
    end,
  }
  local c, rope_of_windows = nn.decoder_config(whole, defaults), nn.decoder_config(local_, defaults).rope
  if config.use_bidirectional_attention then c.refuse("use_bidirectional_attention", "true", "false") end
  local function cap(key) return config[key] and config[key] ~= 0 and config[key] or nil end
  -- transformers reads this cap and computes without it.
  if cap "attn_logit_softcapping" then c.refuse("attn_logit_softcapping", config.attn_logit_softcapping, "null") end
  local part = decoder_parts(c, function(name, dim)
    return nn.rmsnorm { name = name, dim = dim, eps = c.eps, offset = 1 }
  end)
  return part.decoder(function(i)
    return {
      nn.residual {
        part.norm "input_layernorm",
        part.attention(i, {
          bias = c.attention_bias, rope = c.windows[i] > 0 and rope_of_windows or c.rope,
          scale = (config.query_pre_attn_scalar or 256) ^ -0.5,
          q_norm = part.norm("q_norm", c.head_dim), k_norm = part.norm("k_norm", c.head_dim),
        }),
        part.norm "post_attention_layernorm",
      },
      nn.residual {
        part.norm "pre_feedforward_layernorm", part.swiglu { activation = "gelu_tanh" },
        part.norm "post_feedforward_layernorm",
      },
    }
  end, { scale = math.sqrt(c.dim), softcap = cap "final_logit_softcapping" })
end
