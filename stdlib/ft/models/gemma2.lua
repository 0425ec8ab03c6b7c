--- Gemma 2 (model_type "gemma2"), named as Gemma2ForCausalLM names its weights: norms before and behind each block, with
--- weights around 0; scaled embeddings; GELU; every other layer under a window; scores and logits that are capped.
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, {
    tie_word_embeddings = true, kv_heads = 4, head_dim = 256, positions = 8192,
    activation_key = "hidden_activation", activation = "gelu_pytorch_tanh", always_slides = true, sliding_window = 4096,
    window = function(i) return i % 2 == 1 and "sliding_attention" or "full_attention" end,
  })
  if config.use_bidirectional_attention then c.refuse("use_bidirectional_attention", "true", "false") end
  --- transformers caps where the key is absent, and does not where it is null; here both read as nothing.
  local function cap(key, usual)
    if config[key] == nil then c.refuse(key, "nothing", "a number", ("write %s, the usual cap, or 0 for none"):format(usual)) end
    return config[key] ~= 0 and config[key] or nil
  end
  local q_dim, kv_dim = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local function linear(name, from, to, bias)
    return nn.linear { name = name, ["in"] = from, out = to, bias = bias, init_std = c.std }
  end
  local function norm(name) return nn.rmsnorm { name = name, dim = c.dim, eps = c.eps, offset = 1 } end

  local layers = {}
  for i = 1, c.layers do
    layers[i] = nn.chain {
      name = "model.layers." .. i - 1,
      nn.residual {
        norm "input_layernorm",
        nn.attention {
          name = "self_attn", heads = c.heads, kv_heads = c.kv_heads, head_dim = c.head_dim, rope = c.rope,
          window = c.windows[i], scale = (config.query_pre_attn_scalar or 256) ^ -0.5,
          softcap = cap("attn_logit_softcapping", "50.0"),
          q = linear("q_proj", c.dim, q_dim, c.attention_bias), k = linear("k_proj", c.dim, kv_dim, c.attention_bias),
          v = linear("v_proj", c.dim, kv_dim, c.attention_bias), o = linear("o_proj", q_dim, c.dim, c.attention_bias),
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
      softcap = cap("final_logit_softcapping", "30.0"),
    },
  }
end
