--- Gemma 3's text model (model_type "gemma3_text"), named as Gemma3ForCausalLM names its weights: Gemma 2 with normed heads,
--- five layers of six under a window, and those rotated by a base of their own.
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
  local q_dim, kv_dim = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local function linear(name, from, to, bias)
    return nn.linear { name = name, ["in"] = from, out = to, bias = bias, init_std = c.std }
  end
  local function norm(name, dim) return nn.rmsnorm { name = name, dim = dim or c.dim, eps = c.eps, offset = 1 } end

  local layers = {}
  for i = 1, c.layers do
    layers[i] = nn.chain {
      name = "model.layers." .. i - 1,
      nn.residual {
        norm "input_layernorm",
        nn.attention {
          name = "self_attn", heads = c.heads, kv_heads = c.kv_heads, head_dim = c.head_dim,
          rope = c.windows[i] > 0 and rope_of_windows or c.rope, window = c.windows[i],
          scale = (config.query_pre_attn_scalar or 256) ^ -0.5,
          softcap = cap "attn_logit_softcapping",
          q = linear("q_proj", c.dim, q_dim, c.attention_bias), k = linear("k_proj", c.dim, kv_dim, c.attention_bias),
          v = linear("v_proj", c.dim, kv_dim, c.attention_bias), o = linear("o_proj", q_dim, c.dim, c.attention_bias),
          q_norm = norm("q_norm", c.head_dim), k_norm = norm("k_norm", c.head_dim),
        },
        norm "post_attention_layernorm",
      },
      nn.residual {
        norm "pre_feedforward_layernorm",
        nn.swiglu {
          name = "mlp", activation = "gelu_tanh", gate = linear("gate_proj", c.dim, c.hidden),
          up = linear("up_proj", c.dim, c.hidden), down = linear("down_proj", c.hidden, c.dim),
        },
        norm "post_feedforward_layernorm",
      },
    }
  end
  return nn.decoder {
    embedding = nn.embedding {
      name = "model.embed_tokens", vocab = c.vocab, dim = c.dim, init_std = c.std, scale = math.sqrt(c.dim),
    },
    layers = layers,
    head = {
      norm = norm "model.norm", tied = c.tied, output = not c.tied and linear("lm_head", c.dim, c.vocab) or nil,
      softcap = cap "final_logit_softcapping",
    },
  }
end
