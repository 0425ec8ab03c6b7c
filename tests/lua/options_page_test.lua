--- docs/api/options.md is what the option registry says, key by key. After a change to the registry, write it again:
---   FTENGINE_UPDATE_GOLDEN=1 ftengine test tests/lua/options_page_test.lua
local ft = require "ft"
local native = require "ft.native"
local test = require "ft.test"

local opening = [[
# Options

Every key that a plan takes, with its kind, its default and its meaning. Unknown keys are refused, with the nearest known one.
[recipes.md](../recipes.md) shows them at work. This page is made from `engine/schema/registry.cpp` by
`tests/lua/options_page_test.lua`, which fails when it differs.
]]

local function code(text) return "`" .. text .. "`" end

--- A value as a recipe writes it.
local function written(value)
  if type(value) == "string" then return ('"%s"'):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for i, item in ipairs(value) do parts[i] = written(item) end
  if #parts > 0 then return "{ " .. table.concat(parts, ", ") .. " }" end
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do parts[i] = key .. " = " .. written(value[key]) end
  return #parts > 0 and "{ " .. table.concat(parts, ", ") .. " }" or "{}"
end

local function kind_of(option)
  if not option.allowed then return option.kind .. (option.limits and " " .. option.limits or "") end
  local values = {}
  for i, value in ipairs(option.allowed) do values[i] = code(written(value)) end
  return table.concat(values, ", ")
end

local function default_of(option)
  if option.required then return "required" end
  return option.default ~= nil and code(written(option.default)) or "none"
end

local function section(schema)
  local call = rawget(ft, schema.name) and "ft." .. schema.name or schema.name .. " = { … }"
  local lines = { "\n## " .. call .. "\n\n" .. schema.doc .. "\n\n| key | kind | default | meaning |\n|---|---|---|---|\n" }
  for _, option in ipairs(schema.options) do
    local key = code(option.key) .. (option.key == schema.positional and " (may stand without its key)" or "")
    lines[#lines + 1] = ("| %s | %s | %s | %s |\n"):format(key, kind_of(option), default_of(option), option.doc)
  end
  if #schema.renames > 0 then
    local names = {}
    for i, rename in ipairs(schema.renames) do names[i] = ("%s as %s"):format(code(rename.from), code(rename.to)) end
    lines[#lines + 1] = "\nRead with a warning: " .. table.concat(names, ", ") .. ".\n"
  end
  return table.concat(lines)
end

local function page()
  local parts = { opening }
  for _, name in ipairs(native.schema_names()) do parts[#parts + 1] = section(native.schema(name)) end
  return table.concat(parts)
end

test.case("every option has a line of documentation", function(t)
  for _, name in ipairs(native.schema_names()) do
    local schema = native.schema(name)
    t.truthy(#schema.doc > 3, name)
    for _, option in ipairs(schema.options) do
      t.truthy(option.doc and #option.doc > 3, ("%s.%s has no documentation"):format(name, option.key))
    end
  end
end)

test.case("the page of options is what the registry says", function(t)
  local path = t.here .. "/../../docs/api/options.md"
  if os.getenv("FTENGINE_UPDATE_GOLDEN") then
    local file = assert(io.open(path, "wb"))
    file:write(page())
    file:close()
  end
  t.truthy(t.read(path) == page(),
    "docs/api/options.md differs; write it again: FTENGINE_UPDATE_GOLDEN=1 ftengine test tests/lua/options_page_test.lua")
end)
