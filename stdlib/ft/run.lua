--- A run in the recipe's spelling, around the native one.
---   for step, window in run:steps() do … end      window:tokens(), window:each()
---   run:sum(x)  run:backward(batch, tokens)  run:clip(max_norm)  run:update()  run:log{…}  run:evaluate(split, {…})
---   run:measure(split, function(batch) … return sum, count end)
---   run:log_probs(batch, { adapter = false })      run:backward_sequences(batch, count, function(log_probs) … end)
---   run:save()  run:finish()                      run.lr, run.step, run.total_steps, run.rank, run.world_size, run.directory
local native = require "ft.native"

local Run, Window = {}, {}
Window.__index = Window

--- Labels of this rank's rows in the window.
function Window:tokens() return self.native:window_tokens() end

--- Iterates over this rank's micro batches.
function Window:each()
  local batches, i = self.native:window(), 0
  return function()
    i = i + 1
    return batches[i]
  end
end

--- Iterates over the windows that are left: step number, window. Collective.
function Run:steps()
  local inner = self.native
  return function()
    if not inner:next_step() then return nil end
    native.lua_seconds() -- what an evaluation took is not the step's
    return inner:step(), setmetatable({ native = inner }, Window)
  end
end

for _, name in ipairs { "sum", "backward", "backward_sequences", "clip", "evaluate", "measure", "save", "finish" } do
  Run[name] = function(self, ...) return self.native[name](self.native, ...) end
end

--- Σ log p of each sequence of a micro batch; { adapter = false }: of the base without it. Collective.
function Run:log_probs(batch, options)
  return self.native:log_probs(batch, not options or options.adapter ~= false)
end

function Run:update()
  self.native:update()
  rawset(self, "in_lua", native.lua_seconds())
end

--- A row of metrics. Where the model has forwards in Lua, it also says how many seconds of the step they spent in Lua itself.
function Run:log(row)
  local in_lua = rawget(self, "in_lua")
  rawset(self, "in_lua", nil)
  if in_lua and in_lua > 0 and row.lua_seconds == nil then row.lua_seconds = in_lua end
  return self.native:log(row)
end

--- Values that change, or that the run alone knows.
local values = { lr = true, step = true, total_steps = true, rank = true, world_size = true, directory = true }

local meta = {
  __index = function(self, key)
    if Run[key] then return Run[key] end
    if values[key] then return rawget(self, "native")[key](rawget(self, "native")) end
    native.raise { kind = "config", path = "run", message = "has no '" .. tostring(key) .. "'" }
  end,
  __tostring = function(self) return tostring(rawget(self, "native")) end,
}

local run = {}

--- Starts the native run. Collective.
function run.start(plan, data, tokenizer)
  local started = native.start(plan, data, tokenizer)
  require("ft.schedule").apply(plan, started)
  return setmetatable({ native = started }, meta)
end

--- A run of no steps, for `check` and `plan`: every call is taken, none does anything.
function run.empty()
  local zero = function() return 0 end
  local nothing = function() end
  return {
    steps = function() return function() return nil end end,
    sum = function(_, value) return value end,
    backward = zero, backward_sequences = zero, log_probs = function() return {} end,
    clip = zero, measure = zero, update = nothing, log = nothing, save = nothing, finish = nothing,
    evaluate = function() return { loss = 0, tokens = 0, prompts = 0, exact_match = 0 } end,
    lr = 0, step = 0, total_steps = 0, rank = 0, world_size = 1, directory = "",
  }
end

return run
