--- Modules whose forward is a Lua function: nn.module, nn.parameter, nn.declare (docs/models.md, "A forward of one's own").
--- A constructor describes; nothing is allocated. What runs is lua/bind/lua_module.h.
local native = require "ft.native"

local module = {}

local function refuse(class, key, message, help)
  native.raise { kind = "config", path = ("nn.module %s.%s"):format(class, tostring(key)), message = message, help = help }
end

local function is_block(value) return type(value) == "table" and type(value.type) == "string" end

--- What a constructor assigns goes here: blocks and parameters in order, anything else as it is.
local function recorder(class, kept, entries)
  local function record(_, key, value)
    if kept[key] ~= nil then refuse(class, key, "is assigned twice", "children and functions are stated once, in order") end
    if is_block(value) then
      if type(key) ~= "string" or not key:match "^[%a_][%w_]*$" then
        refuse(class, key, "is no name for a child", "its weights are called by it: letters, digits and _")
      end
      if value.name ~= nil then
        refuse(class, key, ("got a block named '%s'"):format(value.name), "a child is called as the attribute that holds it")
      end
      value.name = key
      if value.type == "parameter" then
        entries[#entries + 1] = { key = key, shape = value.shape, init = value.init, std = value.std }
      else
        entries[#entries + 1] = { key = key, block = value }
      end
    elseif type(value) == "table" and is_block(value[1]) then
      refuse(class, key, "got a list of blocks", "assign each to a name of its own, or join them by nn.chain { name = … }")
    end
    kept[key] = value
  end
  return setmetatable({}, { __index = kept, __newindex = record })
end

--- nn.module(name, function(m, …) … end): a constructor of blocks. The function runs once for each, on no device; what it
--- assigns to `m` becomes the children, in that order, and `function m:forward(x, ctx)` what they compute.
function module.module(class, construct)
  return function(...)
    local kept, entries = {}, {}
    construct(recorder(class, kept, entries), ...)
    if type(kept.forward) ~= "function" then
      refuse(class, "forward", "is missing", "state it in the constructor: function m:forward(x, ctx) return … end")
    end
    return { type = "lua", module = class, instance = native.keep_instance { class = class, kept = kept }, entries = entries }
  end
end

--- nn.parameter { shape = { … }, init = "zeros" | "ones" | "normal", std = 0.02 }: a tensor of the module's own, which
--- `self` holds while its forward runs.
function module.parameter(given)
  if type(given) ~= "table" or type(given.shape) ~= "table" or #given.shape == 0 then
    native.raise {
      kind = "config", path = "nn.parameter", message = "key 'shape' is missing", help = "shape = { rows, columns }",
    }
  end
  return { type = "parameter", shape = given.shape, init = given.init or "zeros", std = given.std or 0.02 }
end

--- nn.declare(model_type, function(config) return nn.decoder { … } end): states the architecture of that model_type for this
--- process, as a file ft/models/<model_type>.lua does for every one.
function module.declare(model_type, describe)
  package.loaded["ft.models." .. model_type] = describe
end

return module
