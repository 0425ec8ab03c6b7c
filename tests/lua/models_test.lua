--- What stdlib/ft/models makes of config.json files. tests/golden/models/descriptions holds it for the configs that
--- tests/engine/layers/parity_test.cpp compares with transformers, so that the statements themselves are what is compared:
---   FTENGINE_UPDATE_GOLDEN=1 ftengine test tests/lua/models_test.lua     writes them again
local native = require "ft.native"
local test = require "ft.test"
local describe = require "ft.architecture"

local names = {
  "llama_untied", "llama_tied", "llama3_untied", "llama_yarn_tied", "qwen2_untied", "qwen2_tied", "qwen3_untied", "qwen3_tied",
  "mistral_untied", "mistral_tied", "granite_untied", "granite_tied", "olmo2_untied", "olmo2_tied", "smollm3_untied",
  "smollm3_tied", "phi3_untied", "phi3_tied", "cohere_tied", "cohere_untied", "gemma2_tied", "gemma2_untied", "gemma3_tied",
  "gemma3_untied", "mixtral_untied", "mixtral_tied", "qwen3_moe_untied", "qwen3_moe_tied",
}

local function golden(t, name) return native.read_json(t.here .. "/../golden/models/" .. name .. ".json") end

for _, name in ipairs(names) do
  test.case(name .. " is described as the parity test builds it", function(t)
    local description = describe(golden(t, name).config)
    local path = t.here .. "/../golden/models/descriptions/" .. name .. ".json"
    if os.getenv "FTENGINE_UPDATE_GOLDEN" then
      local file = assert(io.open(path, "w"))
      file:write(native.to_json(description), "\n")
      file:close()
    end
    t.equal(native.parse_json(native.to_json(description)), native.read_json(path))
  end)
end

--- The smallest config; `more` is added.
local function config(kind, more)
  local made = {
    model_type = kind, vocab_size = 64, hidden_size = 32, intermediate_size = 48, num_hidden_layers = 3,
    num_attention_heads = 4, num_key_value_heads = 2, max_position_embeddings = 64,
  }
  for key, value in pairs(more or {}) do made[key] = value end
  return made
end

local function attention(description, layer) return description.layers[layer].blocks[1].blocks[2] end

test.case("transformers 4 and 5 spell the same rotary scaling", function(t)
  local yarn = { factor = 4.0, original_max_position_embeddings = 16 }
  local four, five = { type = "yarn" }, { rope_type = "yarn", rope_theta = 5e5 }
  for key, value in pairs(yarn) do four[key], five[key] = value, value end
  local old = describe(config("llama", { rope_theta = 5e5, rope_scaling = four }))
  four.type, four.rope_type = nil, "yarn"
  local late = describe(config("llama", { rope_theta = 5e5, rope_scaling = four }))
  local new = describe(config("llama", { rope_parameters = five }))
  t.equal(old, new)
  t.equal(late, new)
  local rope = attention(new, 1).rope
  t.equal(rope.theta, 5e5)
  t.near(rope.attention_factor, 0.1 * math.log(4) + 1, 1e-12)
end)

test.case("a rotary scaling that is not known is refused by its name", function(t)
  for _, kind in ipairs { "su", "mrope" } do
    t.raises(function() describe(config("llama", { rope_scaling = { type = kind, factor = 2 } })) end,
      ("model.config.rope_scaling.rope_type: got '%s', want default, linear, dynamic, llama3, yarn or longrope"):format(kind))
  end
  t.raises(function() describe(config("llama", { rope_parameters = { rope_type = "llama3", factor = 8.0 } })) end,
    "model.config.rope_parameters.low_freq_factor: got nothing, want a number")
end)

test.case("windows stand in the layers that transformers puts them in", function(t)
  local function windows(description)
    return { attention(description, 1).window, attention(description, 2).window, attention(description, 3).window }
  end
  t.equal(windows(describe(config("mistral", { sliding_window = 8 }))), { 8, 8, 8 })
  t.equal(windows(describe(config("mistral"))), { 0, 0, 0 })
  local sliding = { use_sliding_window = true, sliding_window = 8, max_window_layers = 1 }
  t.equal(windows(describe(config("qwen2", sliding))), { 0, 8, 8 })
  t.equal(windows(describe(config("qwen3", sliding))), { 0, 8, 8 })
  t.equal(windows(describe(config("qwen2", { sliding_window = 8, max_window_layers = 1 }))), { 0, 0, 0 })
  sliding.layer_types = { "sliding_attention", "full_attention", "sliding_attention" }
  t.equal(windows(describe(config("qwen2", sliding))), { 8, 0, 8 })
  sliding.layer_types[2] = "chunked_attention"
  t.raises(function() describe(config("qwen2", sliding)) end, "model.config.layer_types[2]: got 'chunked_attention'")
end)

test.case("biases stand where transformers has them", function(t)
  local function biases(description)
    local found = attention(description, 1)
    return { found.q.bias, found.k.bias, found.v.bias, found.o.bias }
  end
  t.equal(biases(describe(config("qwen2"))), { true, true, true, false })
  t.equal(biases(describe(config("mistral"))), { false, false, false, false })
  t.equal(biases(describe(config("llama", { attention_bias = true }))), { true, true, true, true })
end)

test.case("Gemma 2 caps where a cap is absent, as transformers does, and does not where it is null or 0", function(t)
  local function caps(more, nulls)
    local made = describe(config("gemma2", more), nulls)
    return attention(made, 1).softcap, made.head.softcap
  end
  t.equal({ caps {} }, { 50.0, 30.0 })
  t.equal({ caps { attn_logit_softcapping = 3.0, final_logit_softcapping = 4.0 } }, { 3.0, 4.0 })
  local attn, final = caps({ attn_logit_softcapping = 0, final_logit_softcapping = 0 })
  t.truthy(attn == nil and final == nil)
  attn, final = caps({ head_dim = 8 }, { attn_logit_softcapping = true, final_logit_softcapping = true })
  t.truthy(attn == nil and final == nil)
end)

test.case("counts that no model has are refused before anything is counted through", function(t)
  for key, wrong in pairs { num_hidden_layers = 2 ^ 40, num_attention_heads = 0, vocab_size = 2.5, hidden_size = -4 } do
    t.raises(function() describe(config("llama", { [key] = wrong })) end, ("model.config.%s: got"):format(key))
  end
  t.raises(function() describe(config("llama", { num_hidden_layers = "2" })) end, "want a whole number from 1 to 10000")
  t.raises(function() describe(config("llama", { rope_parameters = 3 })) end, "model.config.rope_parameters: got 3, want a map")
  t.raises(function() describe(config("mixtral", { num_local_experts = 2 ^ 40 })) end,
    "model.config.num_local_experts: got 1099511627776, want a whole number from 1 to 10000")
  t.raises(function() describe(config("qwen3_moe", { num_experts = -1 })) end, "model.config.num_experts: got -1")
  t.equal(describe(config("qwen3_moe", { num_experts = 0 })).layers[1].blocks[2].blocks[2].type, "swiglu")
end)

test.case("kinds for some layers alone, and an epsilon below 0, are refused", function(t)
  local function qwen(kinds) return describe(config("qwen3", { layer_types = kinds })) end
  t.raises(function() qwen { "full_attention" } end, "model.config.layer_types: got 1 kinds, want one for each of")
  t.raises(function() describe(config("llama", { rms_norm_eps = -1 })) end,
    "model.config.rms_norm_eps: got -1, want a number of 0 or more")
end)

test.case("Gemma 3 is refused a cap on scores, which transformers reads and computes without", function(t)
  local function made(cap) return describe(config("gemma3_text", { head_dim = 8, attn_logit_softcapping = cap })) end
  t.raises(function() made(50.0) end, "model.config.attn_logit_softcapping: got 50, want null")
  t.equal(attention(made(0), 1).softcap, nil)
end)

test.case("a key of a config.json that is null is told from one that is absent", function(t)
  local path = t.write("config.json", '{"a": null, "b": 1, "c": {"d": null}}')
  t.equal(native.null_keys(path), { a = true })
end)
