--- Learning rates by a function of the recipe's own: schedule = function(step, total) return factor end, or
--- ft.schedule(function …). The function stays in Lua. What the engine gets, once the run knows its number of steps, is
--- the list of all factors, so that a resumed run, and every rank, sees the same rates.
local native = require "ft.native"

local schedule = {}
local functions = {} -- by the id that a block carries

--- ft.schedule(fn): describes fn(step, total) -> factor, times the optimizer's lr. step counts the steps done: 0 for the
--- first, total - 1 for the last. fn must depend on nothing else.
function schedule.describe(fn)
  local file, line = native.caller()
  if type(fn) ~= "function" then
    native.raise {
      kind = "config", path = "ft.schedule", message = ("got %s, want a function"):format(type(fn)),
      help = "write ft.schedule(function(step, total) return 1 - step / total end)",
    }
  end
  functions[#functions + 1] = fn
  return native.construct("schedule", { id = #functions, at = ("%s:%d"):format(file, line) })
end

--- What is wrong with the factor of one step; nil when nothing is.
local function fault(fn, step, total)
  local ok, factor = pcall(fn, step, total)
  if not ok then return tostring(factor) end
  if type(factor) ~= "number" then return ("got %s, want a number"):format(type(factor)) end
  if factor ~= factor or factor < 0 or factor == math.huge then
    return ("got %g, want a finite number of 0 or more"):format(factor)
  end
  return nil, factor
end

--- The factors of all steps; or nil, the step, and what is wrong with it.
function schedule.factors(block, total)
  local fn, factors = functions[block.id], {}
  for step = 0, total - 1 do
    local wrong, factor = fault(fn, step, total)
    if wrong then return nil, step, wrong end
    factors[step + 1] = factor
  end
  return factors
end

--- Hands a started run the factors of its steps, where its plan has a function for them. Collective.
function schedule.apply(plan, run)
  local block = plan.optimizer.schedule
  if block.kind ~= "schedule" then return end
  local factors, step, wrong = schedule.factors(block, run:total_steps())
  if not factors then
    native.raise {
      kind = "config", path = "optimizer.schedule",
      message = ("the function of %s, at step %d of %d: %s"):format(block.at, step, run:total_steps(), wrong),
    }
  end
  run:use_schedule(factors)
end

return schedule
