--- What a config.json says of a decoder, in the spelling of transformers 4 or 5: the keys that models share, with
--- transformers' defaults where one is absent. What the engine would compute otherwise is refused by its key.
local native = require "ft.native"
local rope_of = require "ft.rope"

--- The kind of each layer where the config lists none, as its model type has it: function(i, config, width).
local usual_kinds = {}

--- Qwen: the layers from max_window_layers on.
function usual_kinds.by_layer(i, config, width)
  return width > 0 and i > (config.max_window_layers or 28) and "sliding_attention" or "full_attention"
end

--- Those windows alone that layer_types lists.
function usual_kinds.listed() return "full_attention" end

--- The window of each layer, 0 for none.
local function windows_of(config, defaults, layers, refuse)
  local windows = {}
  for i = 1, layers do windows[i] = 0 end
  if defaults.window == "all" then
    for i = 1, layers do windows[i] = config.sliding_window or 0 end
  elseif defaults.window then
    local usual = type(defaults.window) == "function" and defaults.window or usual_kinds[defaults.window]
    local switched_on = defaults.always_slides or config.use_sliding_window
    local width = switched_on and (config.sliding_window or defaults.sliding_window or 0) or 0
    if config.layer_types and #config.layer_types ~= layers then
      refuse("layer_types", ("%d kinds"):format(#config.layer_types), ("one for each of %d layers"):format(layers))
    end
    for i = 1, layers do
      local kind = config.layer_types and config.layer_types[i] or usual(i, config, width)
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

-- Far above any model, and few enough to be counted through: a file may say anything.
local most_layers, most_features = 10000, 2 ^ 31 - 1

local function refuser(config)
  return function(key, got, want, help)
    local file, line = native.origin(config, key)
    native.raise {
      kind = "config", where = line > 0 and ("%s:%d"):format(file, line) or file, path = "model.config." .. key,
      message = "got " .. tostring(got) .. ", want " .. want, help = help,
    }
  end
end

--- Reads the keys of a config.json that decoders share.
--- @param defaults table, all optional: tie_word_embeddings (false), kv_heads (nil: as many as heads), head_dim (nil:
---   hidden_size / heads), positions (max_position_embeddings), theta (10000), eps_key ("rms_norm_eps") and eps (1e-6),
---   activation_key ("hidden_act") and activation ("silu"), the only one that is taken; partial: whether
---   partial_rotary_factor counts; window: which layers have one: "by_layer" (Qwen), "listed", "all" (Mistral), a
---   function(i, config, width) that names a layer's kind where layer_types does not, nil: none; always_slides: no
---   use_sliding_window is asked; sliding_window
--- @return table; `windows` holds each layer's, 0 for none; `rotary_dim` the features of a head that are rotated; `q_dim`
---   and `kv_dim` those of all heads; refuse(key, got, want, help) raises;
---   count(key, most, otherwise) is a whole number from 1 to `most`
return function(config, defaults)
  local refuse = refuser(config)
  local function count(key, most, otherwise)
    local value = config[key]
    if value == nil and otherwise then return otherwise end
    if value == nil then refuse(key, "nothing", "a number") end
    if type(value) ~= "number" or value < 1 or value > most or value % 1 ~= 0 then
      refuse(key, native.to_json(value), ("a whole number from 1 to %d"):format(most))
    end
    return value
  end
  local function need(key) return count(key, most_features) end
  for key, want in pairs { layer_types = "a list", rope_parameters = "a map", rope_scaling = "a map" } do
    if config[key] and type(config[key]) ~= "table" then refuse(key, tostring(config[key]), want) end
  end
  local activation_key, activation = defaults.activation_key or "hidden_act", defaults.activation or "silu"
  if (config[activation_key] or activation) ~= activation then
    refuse(activation_key, ("'%s'"):format(config[activation_key]), ("'%s'"):format(activation))
  end
  if (config.attention_dropout or 0) ~= 0 then
    refuse("attention_dropout", config.attention_dropout, "0", "dropout is the adapter's: ft.lora { dropout = … }")
  end
  local heads = need("num_attention_heads")
  local head_dim = config.head_dim or defaults.head_dim or need("hidden_size") / heads
  local tied = config.tie_word_embeddings
  if tied == nil then tied = defaults.tie_word_embeddings or false end
  local rope, turned = rope_of(config, config.max_position_embeddings or defaults.positions or 2048, refuse, defaults)
  local kv_heads = count("num_key_value_heads", most_features, defaults.kv_heads or heads)
  local eps_key = defaults.eps_key or "rms_norm_eps"
  local eps = config[eps_key] or defaults.eps or 1e-6
  if type(eps) ~= "number" or eps < 0 then refuse(eps_key, native.to_json(eps), "a number of 0 or more") end
  return {
    vocab = need("vocab_size"), dim = need("hidden_size"), hidden = need("intermediate_size"),
    layers = count("num_hidden_layers", most_layers), heads = heads, kv_heads = kv_heads, head_dim = head_dim,
    q_dim = heads * head_dim, kv_dim = kv_heads * head_dim,
    eps = eps, std = config.initializer_range or 0.02,
    rope = rope, rotary_dim = math.floor(head_dim * turned),
    windows = windows_of(config, defaults, count("num_hidden_layers", most_layers), refuse),
    attention_bias = config.attention_bias or false, mlp_bias = config.mlp_bias or false, tied = tied, refuse = refuse,
    count = count,
  }
end
