--- The parts that decoders on the Hub share, under the names that their weights have there: an architecture's file says what
--- it puts together of them, and states by itself what it does otherwise.
local nn = require "ft.nn"

local function with(made, stated)
  for key, value in pairs(stated) do made[key] = value end
  return made
end

--- @param c table of nn.decoder_config
--- @param norm function(name, dim) or nil: the norm that this architecture uses; nil: nn.rmsnorm. Parts call it, too.
--- @return table of constructors: linear, norm, attention, swiglu, decoder
return function(c, norm)
  local part = {}

  --- nn.linear of c's deviation. bias: false where nil.
  function part.linear(name, from, to, bias)
    return nn.linear { name = name, ["in"] = from, out = to, bias = bias, init_std = c.std }
  end

  --- The architecture's norm over `dim` features, or the model's width.
  function part.norm(name, dim)
    if norm then return norm(name, dim or c.dim) end
    return nn.rmsnorm { name = name, dim = dim or c.dim, eps = c.eps }
  end

  --- Layer i's `self_attn`: nn.attention of q_proj, k_proj, v_proj and o_proj.
  --- @param stated table or nil: keys of nn.attention in the stead of these; bias: of the four linears (false)
  function part.attention(i, stated)
    local linears = with({}, stated or {})
    local bias = linears.bias
    linears.bias = nil
    if not linears.qkv then
      linears.q = linears.q or part.linear("q_proj", c.dim, c.q_dim, bias)
      linears.k = linears.k or part.linear("k_proj", c.dim, c.kv_dim, bias)
      linears.v = linears.v or part.linear("v_proj", c.dim, c.kv_dim, bias)
    end
    linears.o = linears.o or part.linear("o_proj", c.q_dim, c.dim, bias)
    return nn.attention(with({
      name = "self_attn", heads = c.heads, kv_heads = c.kv_heads, head_dim = c.head_dim, rope = c.rope, window = c.windows[i],
    }, linears))
  end

  --- nn.swiglu of gate_proj, up_proj and down_proj.
  --- @param stated table or nil: name ("mlp"), hidden (the config's), bias (false), activation
  function part.swiglu(stated)
    stated = stated or {}
    local hidden, bias = stated.hidden or c.hidden, stated.bias
    return nn.swiglu {
      name = stated.name or "mlp", activation = stated.activation,
      gate = part.linear("gate_proj", c.dim, hidden, bias), up = part.linear("up_proj", c.dim, hidden, bias),
      down = part.linear("down_proj", hidden, c.dim, bias),
    }
  end

  --- The whole: model.embed_tokens, model.layers.0 and so on, model.norm, and lm_head where it is not the embedding.
  --- @param layer function(i) -> list of layer i's blocks, i from 1
  --- @param stated table or nil: scale of embeddings; logit_scale, softcap of logits
  function part.decoder(layer, stated)
    stated = stated or {}
    local layers = {}
    for i = 1, c.layers do layers[i] = nn.chain(with({ name = "model.layers." .. i - 1 }, layer(i))) end
    return nn.decoder {
      embedding = nn.embedding {
        name = "model.embed_tokens", vocab = c.vocab, dim = c.dim, init_std = c.std, scale = stated.scale,
      },
      layers = layers,
      head = {
        norm = part.norm "model.norm", tied = c.tied, output = not c.tied and part.linear("lm_head", c.dim, c.vocab) or nil,
        logit_scale = stated.logit_scale, softcap = stated.softcap,
      },
    }
  end

  return part
end
