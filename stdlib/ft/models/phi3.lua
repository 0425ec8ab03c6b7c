--- Phi-3 (model_type "phi3", also Phi-3.5 and Phi-4-mini), named as Phi3ForCausalLM names its weights: queries, keys and
--- values in one matrix, gate and up in another, and part of each head rotated.
local nn = require "ft.nn"

return function(config)
  local c = nn.decoder_config(config, {
    eps = 1e-5, positions = 4096, window = "all", partial = true, rope_aliases = { su = "longrope", yarn = "longrope" },
  })
  for _, key in ipairs { "resid_pdrop", "embd_pdrop" } do
    if (config[key] or 0) ~= 0 then
      c.refuse(key, config[key], "0", "dropout is the adapter's: ft.lora { dropout = … }")
    end
  end
  local q_dim, kv_dim = c.heads * c.head_dim, c.kv_heads * c.head_dim
  local function linear(name, from, to)
    return nn.linear { name = name, ["in"] = from, out = to, init_std = c.std }
  end
  local function norm(name) return nn.rmsnorm { name = name, dim = c.dim, eps = c.eps } end

  local layers = {}
  for i = 1, c.layers do
    layers[i] = nn.chain {
      name = "model.layers." .. i - 1,
      nn.residual {
        norm "input_layernorm",
        nn.attention {
          name = "self_attn", heads = c.heads, kv_heads = c.kv_heads, head_dim = c.head_dim, rope = c.rope,
          rotary_dim = c.rotary_dim, window = c.windows[i], qkv = linear("qkv_proj", c.dim, q_dim + 2 * kv_dim),
          o = linear("o_proj", q_dim, c.dim),
        },
      },
      nn.residual {
        norm "post_attention_layernorm",
        nn.swiglu {
          name = "mlp", gate_up = linear("gate_up_proj", c.dim, 2 * c.hidden), down = linear("down_proj", c.hidden, c.dim),
        },
      },
    }
  end
  return nn.decoder {
    embedding = nn.embedding { name = "model.embed_tokens", vocab = c.vocab, dim = c.dim, init_std = c.std },
    layers = layers,
    head = { norm = norm "model.norm", tied = c.tied, output = not c.tied and linear("lm_head", c.dim, c.vocab) or nil },
  }
end
