--- The YAML dialect of Axolotl: a configuration becomes the plan that a recipe would state.
---   local config = dialect.read(file, settings, allowed)    what is written, and its parts of a plan
---   dialect.plan(config)                                     an ft.plan, whose messages blame the configuration's keys
local native = require "ft.native"
local reader = require "ft.dialect.reader"
local parts = require "ft.dialect.plan_text"
local renames = require "ft.dialect.renames"
local faults = require "ft.faults"

local dialect = {}

local subjects = { "model", "data", "layout", "optimizer", "saving" }

--- Rules whose warnings the configuration switches off; an error stays one.
local function switched_off(r)
  local off = {}
  for _, id in ipairs(r.values.ignore_warnings or {}) do
    local rule, near = require("ft.rules").known(tostring(id))
    if not rule then
      r:refuse("ignore_warnings", ("no rule '%s'"):format(tostring(id)),
        near and ("did you mean '%s'?"):format(near) or "ftengine rules lists them", "dialect.ignored_warning")
    elseif rule.severity ~= "warning" then
      r:refuse("ignore_warnings", ("'%s' is an error, and stays one"):format(id), "ftengine rules " .. id
        .. " says why it is one", "dialect.ignored_warning")
    else
      off[id] = true
    end
  end
  return off
end

--- Reads, judges by the rules on what is written, and translates. Raises everything that is wrong, together.
--- @return { reader =, parts = }
function dialect.read(file, settings, allowed)
  local r = reader.read(file, settings or {}, allowed or false)
  require("ft.judge").written(r)
  renames.top(r)
  local plan = parts.new(r)
  for _, subject in ipairs(subjects) do require("ft.dialect." .. subject)(r, plan) end
  if plan.loop.clip_of_json then plan.loop.clip, plan.loop.clip_of_json = plan.loop.clip_of_json, nil end
  local off = switched_off(r)
  for i = #r.faults, 1, -1 do
    if r.faults[i].warning and off[r.faults[i].rule] then table.remove(r.faults, i) end
  end
  faults.settle(r.faults)
  return { reader = r, parts = plan, off = off }
end

--- The values of a block, its inner blocks made by their constructors.
local function made(block)
  local values = {}
  for name, value in pairs(block.values) do
    values[name] = type(value) == "table" and value.parts and made(value) or value
    native.place(values, name, native.origin(block.values, name))
  end
  if not block.constructor then return values end
  if block.constructor == "lora" then return require("ft").lora(values) end
  return (native.construct(block.constructor, values))
end

--- What ft.plan is given.
local function given(config)
  local plan = config.parts
  local out, data = {}, {}
  for _, block in ipairs(plan.blocks) do
    local outer, inner = block.path:match("^([^.]+)%.(.+)$")
    if not outer then
      out[block.path] = made(block)
    elseif outer == "data" then
      data[inner] = made(block)
    end
    if block.key and not inner then native.place(out, block.path, config.reader:place(block.key)) end
  end
  out.data = data
  for _, entry in ipairs(plan.own) do
    out[entry.name] = entry.value
    native.place(out, entry.name, config.reader:place(entry.key))
  end
  return out
end

function dialect.plan(config)
  local file, line = config.reader:place(config.parts.keys["save.resume"])
  return require("ft.plan").from(given(config), {
    key_of = function(path) return config.parts:key_of(path) end,
    place_of = function(key) return config.reader:place(key) end,
    off = config.off, environment = config.reader.environment, resume = config.parts.resume,
    resume_file = file, resume_line = line,
  })
end

return dialect
