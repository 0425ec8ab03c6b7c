--- The rotary positions of a config.json, in the spelling of transformers 4 (rope_theta, rope_scaling = { type | rope_type })
--- or 5 (rope_parameters = { rope_theta, rope_type }), resolved into the numbers that nn.attention takes as `rope`.

--- Magnitude of attention under YaRN, as transformers' get_mscale.
local function magnitude(scale, weight)
  if scale <= 1 then return 1.0 end
  return 0.1 * (weight or 1) * math.log(scale) + 1.0
end

--- Each type reads its own keys; `need(key)` is a number that must be there.
local types = {}

function types.default() return {} end

function types.linear(_, _, need) return { factor = need "factor" } end

function types.dynamic(_, positions, need) return { factor = need "factor", original = positions } end

function types.llama3(rope, positions, need)
  return {
    factor = need "factor", low_freq_factor = need "low_freq_factor", high_freq_factor = need "high_freq_factor",
    original = rope.original_max_position_embeddings or positions,
  }
end

function types.yarn(rope, positions)
  local original = rope.original_max_position_embeddings or positions
  local factor = rope.factor or positions / original
  local attention = rope.attention_factor
  if not attention and (rope.mscale or 0) ~= 0 and (rope.mscale_all_dim or 0) ~= 0 then
    attention = magnitude(factor, rope.mscale) / magnitude(factor, rope.mscale_all_dim)
  end
  return {
    factor = factor, original = original, attention_factor = attention or magnitude(factor), truncate = rope.truncate ~= false,
    beta_fast = rope.beta_fast or 32, beta_slow = rope.beta_slow or 1,
  }
end

function types.longrope(rope, positions, need, config)
  local original = config.original_max_position_embeddings or rope.original_max_position_embeddings or positions
  local factor = rope.factor or positions / original
  local attention = rope.attention_factor or factor <= 1 and 1.0 or math.sqrt(1 + math.log(factor) / math.log(original))
  return {
    original = original, attention_factor = attention, short_factor = need("short_factor", "table"),
    long_factor = need("long_factor", "table"),
  }
end

--- @param positions number: max_position_embeddings
--- @param refuse function(key, got, want, help): raises
--- @param defaults table: theta (10000), partial (whether a part of a head's features may be rotated alone),
---   rope_aliases (types under older names)
--- @return table { type, theta, … } as engine/layers/rope_table.h lists them
--- @return number: the part of a head's features that is rotated
return function(config, positions, refuse, defaults)
  local block = config.rope_parameters and "rope_parameters" or "rope_scaling"
  local rope = config[block] or {}
  local kind = rope.rope_type or rope.type or "default"
  kind = (defaults.rope_aliases or {})[kind] or kind
  if not types[kind] then
    refuse(block .. ".rope_type", ("'%s'"):format(tostring(kind)), "default, linear, dynamic, llama3, yarn or longrope",
      "this rotary scaling is not implemented")
  end
  local partial = rope.partial_rotary_factor or config.partial_rotary_factor or 1
  if partial ~= 1 and not defaults.partial then
    refuse("partial_rotary_factor", partial, "1", "every feature of a head is rotated")
  end
  local function need(key, wanted)
    if type(rope[key]) ~= (wanted or "number") then
      refuse(block .. "." .. key, rope[key] == nil and "nothing" or tostring(rope[key]),
        ("%s, for '%s'"):format(wanted and "a list of numbers" or "a number", kind))
    end
    return rope[key]
  end
  local made = types[kind](rope, positions, need, config)
  made.type = kind
  made.theta = rope.rope_theta or config.rope_theta or defaults.theta or 10000.0
  return made, partial
end
