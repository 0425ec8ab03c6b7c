--- Configurations and recipes with random keys, values and nesting: material for the test that nothing which a user may
--- write ends in anything but a verdict.
local keys = require "ft.dialect.keys"
local unsupported = require "ft.dialect.unsupported"

local random_plans = {}

local function sorted(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local names = {
  known = sorted(keys.known), fsdp = sorted(keys.fsdp), dataset = sorted(keys.dataset), unsupported = sorted(unsupported),
}

--- A small generator of one's own, so that a seed gives the same texts everywhere (Park and Miller's).
local function generator(seed)
  local state = seed % 2147483646 + 1
  return function(n)
    state = state * 16807 % 2147483647
    return state % n + 1
  end
end

local scalars = {
  "true", "false", "yes", "\"True\"", "0", "1", "2", "3", "-1", "4096", "0.5", "1e-4", "1e400", ".nan", "-.inf", "null", "",
  "~",
  "dpo", "chat_template.default", "chatml.intel", "\"train[:20%]\"", "[dialect.logger]", "auto", "full", "\"\"", "\"0.1\"",
  "qlora", "lora", "adamw_bnb_8bit", "adamw_torch_8bit", "muon", "cosine", "steps", "epoch",
  "zero3.json", "zero2", "FULL_SHARD", "SHARDED_STATE_DICT", "SIZE_BASED_WRAP", "Qwen3DecoderLayer", "recipes/demo/model",
  "recipes/demo/train.jsonl", "recipes/demo", "/dev/null", "tests/configs/untied", "nobody/nothing", "all-linear", "[q_proj]",
  "\"[\"", "0x7fffffffffffffff", "99999999999999999999", "\"\\u0000\"", "日本", "{}", "[]", "[[]]", "- ", "2024-01-01",
}

local function pick(random, list) return list[random(#list)] end

--- A value in YAML's flow style.
local function value(random, depth)
  local kind = random(depth > 3 and 8 or 12)
  if kind <= 8 then return pick(random, scalars) end
  local items = {}
  for i = 1, random(4) - 1 do
    local inner = value(random, depth + 1)
    if kind > 10 then
      local list = pick(random, { names.known, names.fsdp, names.dataset })
      inner = pick(random, list) .. i .. ": " .. (inner == "- " and "1" or inner)
      if random(3) > 1 then inner = inner:gsub("^([%w_]-)%d+:", "%1:") end
    end
    items[i] = inner
  end
  local text = table.concat(items, ", ")
  return kind > 10 and "{ " .. text .. " }" or "[ " .. text .. " ]"
end

local function block(random, list, count)
  local lines, seen = {}, {}
  for _ = 1, random(count) do
    local key = pick(random, list)
    if random(8) == 1 then key = "fsdp_" .. key end
    if not seen[key] then lines[#lines + 1] = "  " .. key .. ": " .. value(random, 2) end
    seen[key] = true
  end
  return table.concat(lines, "\n")
end

local sensible = {
  base_model = "recipes/demo/model", sequence_len = "64", learning_rate = "1e-4",
  datasets = "[{ path: recipes/demo/train.jsonl, type: chat_template }]",
}

--- @return the text of a configuration
function random_plans.config(seed)
  local random = generator(seed)
  local lines, seen = {}, {}
  for _, key in ipairs(sorted(sensible)) do
    seen[key] = random(6) > 1
    if seen[key] then lines[#lines + 1] = key .. ": " .. sensible[key] end
  end
  for _ = 1, random(12) do
    local key = pick(random, random(6) == 1 and names.unsupported or names.known)
    if random(30) == 1 then key = key .. "x" end
    if not seen[key] then lines[#lines + 1] = key .. ": " .. value(random, 1) end
    seen[key] = true
  end
  if random(3) == 1 and not seen.fsdp_config then lines[#lines + 1] = "fsdp_config:\n" .. block(random, names.fsdp, 6) end
  return table.concat(lines, "\n") .. "\n"
end

local lua_scalars = {
  "true", "false", "0", "1", "-1", "0.5", "1e300", "0/0", "1/0", "nil", "\"\"", "\"fsdp2\"", "\"ddp\"", "\".*_proj\"",
  "\"paged\"", "\"cuda\"", "\"nf4\"", "\"x\"",
  "\"recipes/demo/model\"", "\"recipes/demo/train.jsonl\"", "print", "ft", "ft.null", "function() return 1 end", "{}", "{ {} }",
  "{ 1, 2 }", "{ \"q_proj\" }", "{ 1, x = 2 }", "setmetatable({}, { __index = error })", "coroutine.create(print)", "2^53",
}

--- A value in Lua: a scalar, or a constructor of a schema with some of its keys.
local function lua_value(random, schemas, depth)
  if random(3) > 1 or depth > 3 then return pick(random, lua_scalars) end
  local schema = pick(random, schemas)
  local items, seen = {}, {}
  for i = 1, random(5) - 1 do
    local option = schema.options[random(math.max(1, #schema.options))]
    if option and not seen[option.key] then
      local text = option.default ~= nil and type(option.default) ~= "table" and random(3) == 1 and ("%q"):format(
        tostring(option.default)) or lua_value(random, schemas, depth + 1)
      items[#items + 1] = option.key .. (random(25) == 1 and i or "") .. " = " .. text
      seen[option.key] = true
    end
  end
  return (random(8) > 1 and "ft." .. schema.name .. " " or "") .. "{ " .. table.concat(items, ", ") .. " }"
end

--- @param schemas those of the registry   @return entries of a plan for plans.recipe
function random_plans.entries(seed, schemas)
  local random, entries = generator(seed), {}
  for _, key in ipairs { "model", "adapter", "data", "parallel", "optimizer", "batch", "max_steps", "save" } do
    if random(3) == 1 then entries[key] = lua_value(random, schemas, 1) end
  end
  if random(4) == 1 then entries.data = "{ train = " .. lua_value(random, schemas, 2) .. " }" end
  return entries
end

return random_plans
