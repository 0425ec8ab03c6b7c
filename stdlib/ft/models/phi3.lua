--- Phi-3 (model_type "phi3", also Phi-3.5 and Phi-4-mini), named as Phi3ForCausalLM names its weights: queries, keys and
--- values in one matrix, gate and up in another, and part of each head rotated.
local decoder_parts = require "ft.decoder_parts"
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
  local part = decoder_parts(c)
  return part.decoder(function(i)
    return {
      nn.residual {
        part.norm "input_layernorm",
        part.attention(i, { rotary_dim = c.rotary_dim, qkv = part.linear("qkv_proj", c.dim, c.q_dim + 2 * c.kv_dim) }),
      },
      nn.residual {
        part.norm "post_attention_layernorm",
        nn.swiglu {
          name = "mlp", gate_up = part.linear("gate_up_proj", c.dim, 2 * c.hidden),
          down = part.linear("down_proj", c.hidden, c.dim),
        },
      },
    }
  end)
end
