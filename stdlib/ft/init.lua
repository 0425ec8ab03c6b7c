--- The standard library of recipes: `local ft = require "ft"`.
--- Constructors describe (ft.plan, ft.hf, ft.lora, …) and load nothing; live objects have methods called by `:`.
local native = require "ft.native"

local ft = {
  aten = native.aten,     --- every ATen and ft:: op by its schema: ft.aten.add(a, b, { alpha = 2 })
  tensor = native.tensor, --- ft.tensor({ { 1, 2 }, { 3, 4 } }, "fp32")
  null = native.null,     --- JSON's null inside lists
  options = require "ft.options",
  plan = require "ft.plan",
}

--- Constructors of the built-in schemas: each takes one table, refuses unknown keys, and fills in defaults.
for _, name in ipairs {
  "hf", "scratch", "config", "chat", "alpaca", "completion", "tokenized", "segments", "preference", "fsdp2", "constant", "linear",
  "cosine", "inverse_sqrt", "wsd",
} do
  ft[name] = function(given)
    local made = native.construct(name, given)
    return made
  end
end

--- LoRA: new, or going on from a folder that PEFT wrote.
function ft.lora(given)
  if type(given) == "table" and given.from then given = require("ft.adapter")(given) end
  local made = native.construct("lora", given)
  return made
end

--- ft.schedule(function(step, total) return factor end): a learning rate of one's own.
function ft.schedule(fn)
  return (require("ft.schedule").describe(fn))
end

--- Constructors of optimizers: a function may stand for their schedule.
for _, name in ipairs { "adamw", "sgd", "lion", "adafactor", "muon" } do
  ft[name] = function(given)
    if type(given) == "table" and type(given.schedule) == "function" then
      local copy = {}
      for key, value in pairs(given) do copy[key] = value end
      copy.schedule = require("ft.schedule").describe(given.schedule)
      given = copy
    end
    local made = native.construct(name, given)
    return made
  end
end

--- Parts that few recipes need are loaded when they are named.
local parts = { nn = "ft.nn", dpo = "ft.dpo", test = "ft.test", rules = "ft.rules", tokenizer = "ft.tokenizer" }

return setmetatable(ft, {
  __index = function(_, key)
    if parts[key] then return require(parts[key]) end
    local near = native.nearest(tostring(key), require("ft.sorted_keys")(ft, parts))
    native.raise {
      kind = "config", path = "ft", message = "has no '" .. tostring(key) .. "'",
      help = near and ("did you mean 'ft." .. near .. "'?") or nil,
    }
  end,
})
