--- The parts of a plan as the dialect gathers them: blocks with their constructors, and for every entry the key of the
--- configuration that says it, so that a rule's message blames that key.
local native = require "ft.native"

local Block, Parts = {}, {}
Block.__index, Parts.__index = Block, Parts

--- Sets an entry that `key` of the configuration says; nil leaves it out.
function Block:set(name, value, key)
  if value == nil then return end
  self.values[name] = value
  if key then
    self.parts.keys[self.path .. "." .. name] = key
    local file, line = self.parts.reader:place(key)
    if file ~= "" then native.place(self.values, name, file, line) end
  end
end

function Block:drop(name) self.values[name] = nil end

--- A block inside this one.
function Block:inner(name, constructor, key)
  local block = self.parts:block(self.path .. "." .. name, constructor, key)
  self.values[name] = block
  return block
end

--- Begins a block of the plan. @param constructor "lora" for ft.lora; nil for a plain table
function Parts:block(path, constructor, key)
  local block = setmetatable({ parts = self, path = path, constructor = constructor, key = key, values = {} }, Block)
  self.keys[path] = self.keys[path] or key
  self.blocks[#self.blocks + 1] = block
  self.by_path[path] = block
  return block
end

--- Sets an entry of the plan itself.
function Parts:set(name, value, key)
  self.own[#self.own + 1] = { name = name, value = value, key = key }
  self.keys[name] = key
end

--- The key of the configuration that says an entry of the plan; nil when none does.
function Parts:key_of(path)
  while path ~= "" do
    if self.keys[path] then return self.keys[path] end
    path = path:match("^(.*)[.%[][^.%[]*$") or ""
  end
  return nil
end

local parts = {}

function parts.new(reader)
  return setmetatable({ reader = reader, keys = {}, blocks = {}, by_path = {}, own = {}, loop = {} }, Parts)
end

return parts
