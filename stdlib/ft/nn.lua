--- Native blocks, from which an architecture is stated. A constructor returns a plain table that the engine builds modules
--- from (engine/layers/builder.h); nothing is allocated. Every block has a `name` relative to its parent, so that the names
--- of weights on disk are those of the description. Blocks inside a block stand in its list part, in order.

local native = require "ft.native"
local rope_of = require "ft.rope"
local module = require "ft.module"

local nn = { module = module.module, parameter = module.parameter, declare = module.declare }

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

--- Rows of a table: tokens [B, T] -> [B, T, dim]. Weight [vocab, dim].
nn.embedding = block("embedding", { name = true, vocab = true, dim = true }, { init_std = 0.02 },
  function(stated) return spelled(stated, { "vocab", "dim" }) end)
--- [.., in] -> [.., out]. Weight [out, in]; "all-linear" adapters and NF4 reach those of decoder layers.
nn.linear = block("linear", { name = true, ["in"] = true, out = true }, { bias = false, init_std = 0.02 },
  function(stated) return spelled(stated, { "in", "out" }) end)
--- Root mean square norm over the last dim.
nn.rmsnorm = block("rmsnorm", { name = true, dim = true }, { eps = 1e-6 },
  function(stated) return spelled(stated, { "dim" }) end)
--- Causal self-attention: linears q, k, v, o; norms over each head q_norm, k_norm (optional); rope = { theta = … }; window:
--- tokens that each one sees, itself among them (0: all before it).
nn.attention = block("attention", { name = true, heads = true, kv_heads = true, head_dim = true, rope = true, q = true,
  k = true, v = true, o = true, q_norm = false, k_norm = false }, { window = 0 },
  spell_attention)
--- down(silu(gate(x)) * up(x)), of three linears.
nn.swiglu = block("swiglu", { name = true, gate = true, up = true, down = true }, nil, spell_swiglu)

--- Blocks one after another; `name` is put before theirs.
function nn.chain(blocks)
  local made = { type = "chain", name = blocks.name, blocks = {} }
  for i, one in ipairs(blocks) do made.blocks[i] = one end
  return made
end

--- x + the blocks' result.
function nn.residual(blocks)
  local made = nn.chain(blocks)
  made.type = "residual"
  return made
end

--- The whole: an embedding, a list of layers (each is gathered, run and released as one), and the head: a norm with a linear
--- as `output`, or `tied = true` where it shares the embedding's weight. Parts without a name are called embed, layers.0, …,
--- norm and lm_head.
function nn.decoder(parts)
  local function name(part, called) if part then part.name = part.name or called end end
  name(parts.embedding, "embed")
  for i, layer in ipairs(parts.layers) do name(layer, "layers." .. i - 1) end
  name(parts.head.norm, "norm")
  name(parts.head.output, "lm_head")
  return { type = "decoder", embedding = parts.embedding, layers = parts.layers, head = parts.head }
end

--- The window of each layer, as transformers' configurations of Qwen2, Qwen3 and Mistral state it.
local function windows_of(config, defaults, layers, refuse)
  local windows = {}
  for i = 1, layers do windows[i] = 0 end
  if defaults.window == "all" then
    for i = 1, layers do windows[i] = config.sliding_window or 0 end
  elseif defaults.window == "by_layer" then
    local width = config.use_sliding_window and (config.sliding_window or 4096) or 0
    local from = config.max_window_layers or 28
    for i = 1, layers do
      local kind = config.layer_types and config.layer_types[i]
        or (width > 0 and i > from and "sliding_attention" or "full_attention")
      if kind == "sliding_attention" and width == 0 then
        refuse(("layer_types[%d]"):format(i), "'sliding_attention'", "use_sliding_window = true and a sliding_window with it")
      elseif kind ~= "sliding_attention" and kind ~= "full_attention" then
        refuse(("layer_types[%d]"):format(i), ("'%s'"):format(tostring(kind)), "'full_attention' or 'sliding_attention'")
      end
      windows[i] = kind == "sliding_attention" and width or 0
    end
  elseif config.use_sliding_window then
    refuse("use_sliding_window", "true", "false: every layer attends to all of its past")
  end
  return windows
end

--- Reads the keys of a config.json that decoders share, in the spelling of transformers 4 or 5, and refuses by name what the
--- engine would compute otherwise. A key that is absent has transformers' default for the model type.
--- @param defaults table: tie_word_embeddings, kv_heads (nil: as many as heads), head_dim (nil: hidden_size / heads),
---   positions (max_position_embeddings), window: which layers have one: "by_layer" (Qwen), "all" (Mistral), nil: none
--- @return table; `windows` holds each layer's, 0 for none
function nn.decoder_config(config, defaults)
  local function refuse(key, got, want, help)
    local file, line = native.origin(config, key)
    native.raise {
      kind = "config", where = line > 0 and ("%s:%d"):format(file, line) or file, path = "model.config." .. key,
      message = "got " .. tostring(got) .. ", want " .. want, help = help,
    }
  end
  local function need(key)
    if config[key] == nil then refuse(key, "nothing", "a number") end
    return config[key]
  end
  if (config.hidden_act or "silu") ~= "silu" then refuse("hidden_act", ("'%s'"):format(config.hidden_act), "'silu'") end
  if (config.attention_dropout or 0) ~= 0 then
    refuse("attention_dropout", config.attention_dropout, "0", "dropout is the adapter's: ft.lora { dropout = … }")
  end
  local heads = need("num_attention_heads")
  local tied = config.tie_word_embeddings
  if tied == nil then tied = defaults.tie_word_embeddings or false end
  return {
    vocab = need("vocab_size"), dim = need("hidden_size"), hidden = need("intermediate_size"),
    layers = need("num_hidden_layers"), heads = heads, kv_heads = config.num_key_value_heads or defaults.kv_heads or heads,
    head_dim = config.head_dim or defaults.head_dim or need("hidden_size") / heads,
    eps = config.rms_norm_eps or 1e-6, std = config.initializer_range or 0.02,
    rope = rope_of(config, config.max_position_embeddings or defaults.positions or 2048, refuse),
    windows = windows_of(config, defaults, need("num_hidden_layers"), refuse),
    attention_bias = config.attention_bias or false, mlp_bias = config.mlp_bias or false, tied = tied,
  }
end

return nn
