--- ft.options { name = { kind, default =, help =, above =, below =, allowed = }, … }
--- States what the command line (--name value), --config FILE and --set name=value may fill; nothing else is taken.
--- Kinds: integer, number, boolean, string, path, output, list, profile. A default `path` is looked for from the recipe's
--- own folder; an `output` is taken from where the program was started. Returns the values; each remembers who set it.
local native = require "ft.native"

--- { "number", default = 1 } -> { kind = "number", default = 1 }
local function named(key, description)
  if type(description) ~= "table" or type(description[1]) ~= "string" then
    native.raise {
      kind = "config", path = "ft.options." .. tostring(key), message = "want { kind, default = …, help = … }",
      help = "such as { \"number\", default = 2e-4, above = 0 }",
    }
  end
  local out = { kind = description[1] }
  for name, value in pairs(description) do
    if name ~= 1 then out[name] = value end
  end
  return out
end

local function options(declared)
  local keys = {}
  for key in pairs(declared) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  local list = {}
  for i, key in ipairs(keys) do list[i] = { key = key, option = named(key, declared[key]) } end
  local values = native.options(list)
  require("ft.faults").settle(native.faults(values))
  return setmetatable(values, {
    __index = function(_, key)
      if declared[key] then return nil end
      local near = native.nearest(tostring(key), keys)
      native.raise {
        kind = "config", path = "ft.options", message = "has no option '" .. tostring(key) .. "'",
        help = near and ("did you mean '" .. near .. "'?") or nil,
      }
    end,
  })
end

local state = setmetatable({ filled = false }, { __call = function(self, declared)
  local values = options(declared)
  self.filled = true
  return values
end })
return state
