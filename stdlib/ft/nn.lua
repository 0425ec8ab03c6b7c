--- Native blocks, from which an architecture is stated. A constructor returns a plain table that the engine builds modules
--- from (engine/layers/builder.h); nothing is allocated. Every block has a `name` relative to its parent, so that the names
--- of weights on disk are those of the description. Blocks inside a block stand in its list part, in order.

local module = require "ft.module"

local nn = {
  module = module.module, parameter = module.parameter, declare = module.declare,
  decoder_config = require "ft.decoder_config",
}

--- Makes a constructor for blocks of `type` with exactly these keys; `defaults` fills in those left out. Where sizes stand in
--- the list part (nn.rmsnorm { 64 }), `spell` makes keys of them, and who holds the block gives it its name.
local function block(type, required, defaults, spell)
  return function(stated)
    local made = { type = type }
    local unnamed = spell and stated[1] ~= nil
    if unnamed then stated = spell(stated) end
    for key, value in pairs(defaults or {}) do made[key] = value end
    for key, value in pairs(stated) do
      if required[key] == nil and (defaults or {})[key] == nil then
        error(("nn.%s: unknown key '%s'"):format(type, tostring(key)), 2)
      end
      made[key] = value
    end
    for key, needed in pairs(required) do
      if needed and made[key] == nil and not (unnamed and key == "name") then
        error(("nn.%s: key '%s' is missing"):format(type, key), 2)
      end
    end
    return made
  end
end

--- The keys of `stated`, with those of the list part called `names`.
local function spelled(stated, names)
  local made = {}
  for key, value in pairs(stated) do made[names[key] or key] = value end
  return made
end

local function plain_linear(name, stated, from, to)
  local bias, std = stated.bias or false, stated.init_std or 0.02
  return { type = "linear", name = name, ["in"] = from, out = to, bias = bias, init_std = std }
end

--- nn.attention { dim, heads =, kv_heads =, head_dim =, rope =, window =, bias =, init_std = }: linears called q, k, v, o.
local function spell_attention(stated)
  local dim, heads = stated[1], stated.heads
  if not heads then error("nn.attention: key 'heads' is missing", 3) end
  local kv_heads, head_dim = stated.kv_heads or heads, stated.head_dim or dim / heads
  local made = spelled(stated, {})
  made[1], made.bias, made.init_std = nil, nil, nil
  made.kv_heads, made.head_dim, made.rope = kv_heads, head_dim, stated.rope or { theta = 10000.0 }
  made.q = plain_linear("q", stated, dim, heads * head_dim)
  made.k = plain_linear("k", stated, dim, kv_heads * head_dim)
  made.v = plain_linear("v", stated, dim, kv_heads * head_dim)
  made.o = plain_linear("o", stated, heads * head_dim, dim)
  return made
end

--- nn.swiglu { dim, hidden =, bias =, init_std = }, linears called gate, up, down.
local function spell_swiglu(stated)
  local dim, hidden = stated[1], stated.hidden
  if not hidden then error("nn.swiglu: key 'hidden' is missing", 3) end
  local made = spelled(stated, {})
  made[1], made.hidden, made.bias, made.init_std = nil, nil, nil, nil
  made.gate, made.up = plain_linear("gate", stated, dim, hidden), plain_linear("up", stated, dim, hidden)
  made.down = plain_linear("down", stated, hidden, dim)
  return made
end

--- Rows of a table, times `scale` where it is given: tokens [B, T] -> [B, T, dim]. Weight [vocab, dim].
nn.embedding = block("embedding", { name = true, vocab = true, dim = true, scale = false }, { init_std = 0.02 },
  function(stated) return spelled(stated, { "vocab", "dim" }) end)
--- [.., in] -> [.., out]. Weight [out, in]; "all-linear" adapters and NF4 reach those of decoder layers.
nn.linear = block("linear", { name = true, ["in"] = true, out = true }, { bias = false, init_std = 0.02 },
  function(stated) return spelled(stated, { "in", "out" }) end)
--- Root mean square norm over the last dim, times weight + offset (none given: 0; Gemma: 1).
nn.rmsnorm = block("rmsnorm", { name = true, dim = true, offset = false }, { eps = 1e-6 },
  function(stated) return spelled(stated, { "dim" }) end)
--- Norm to mean 0 and deviation 1 over the last dim, times weight, without a bias. `heads`: a weight [heads, dim] of which
--- each head has its own row.
nn.layernorm = block("layernorm", { name = true, dim = true, heads = false }, { eps = 1e-5 },
  function(stated) return spelled(stated, { "dim" }) end)

local attention = block("attention", {
  name = true, heads = true, kv_heads = true, head_dim = true, rope = true, q = false, k = false, v = false, qkv = false,
  o = true, q_norm = false, k_norm = false, rotary_dim = false, interleaved = false, scale = false, softcap = false,
}, { window = 0 }, spell_attention)
--- Causal self-attention.
--- - linears q, k, v, o; or qkv, whose features are those of q, k and v one after another, in the stead of three
--- - norms q_norm, k_norm (optional): over each head, or over all of them where their dim is heads * head_dim
--- - rope = { theta = … }, or false: tokens have no positions; rotary_dim: how many of a head's features are rotated, the
---   first ones (all); interleaved: each with its neighbour, not with the one half a head on
--- - window: tokens that each one sees, itself among them (0: all before it)
--- - scale of the scores (head_dim ^ -0.5); softcap c: scores become c * tanh(score / c)
function nn.attention(stated)
  local made = attention(stated)
  if made.rope == false then made.rope = nil end
  return made
end

--- down(act(gate(x)) * up(x)), of three linears; or gate_up, the gate's features first, in the stead of two. activation:
--- "silu" where none is given, or "gelu_tanh".
nn.swiglu = block("swiglu", { name = true, gate = false, up = false, gate_up = false, down = true, activation = false }, nil,
  spell_swiglu)

--- Some of many blocks for each token, by a router: for the `chosen` experts e of highest probability p, the sum of
--- p_e * expert_e(x). The router's matrix [experts, dim] is called `router`, computes in fp32 and gets neither NF4 nor LoRA;
--- normalize: a token's chosen probabilities are made to add up to 1; balance: coefficient of the auxiliary loss (0: none).
nn.experts = block("experts", { name = true, dim = true, router = true, chosen = true, experts = true },
  { normalize = false, balance = 0, init_std = 0.02 })

local function joined(kind, keys)
  return function(blocks)
    local made = { type = kind, blocks = {} }
    for key, value in pairs(blocks) do
      if type(key) ~= "number" then
        if not keys[key] then error(("nn.%s: unknown key '%s'"):format(kind, tostring(key)), 2) end
        made[key] = value
      end
    end
    for i, one in ipairs(blocks) do made.blocks[i] = one end
    return made
  end
end

--- Blocks one after another; `name` is put before theirs.
nn.chain = joined("chain", { name = true })
--- x + the blocks' result, times `scale` where it is given.
nn.residual = joined("residual", { name = true, scale = true })
--- What each block makes of the same x, added up.
nn.sum = joined("sum", { name = true })

--- The whole: an embedding, a list of layers (each is gathered, run and released as one), and the head: a norm with a linear
--- as `output`, or `tied = true` where it shares the embedding's weight; logit_scale multiplies logits, softcap c
--- makes c * tanh(logit / c) of them. Parts without a name are called embed, layers.0, …,
--- norm and lm_head.
function nn.decoder(parts)
  local function name(part, called) if part then part.name = part.name or called end end
  name(parts.embedding, "embed")
  for i, layer in ipairs(parts.layers) do name(layer, "layers." .. i - 1) end
  name(parts.head.norm, "norm")
  name(parts.head.output, "lm_head")
  return { type = "decoder", embedding = parts.embedding, layers = parts.layers, head = parts.head }
end

return nn
