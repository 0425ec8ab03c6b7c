--- ftengine run|check|plan CONFIG.yml: the job that a configuration of the YAML dialect states.
local native = require "ft.native"
local dialect = require "ft.dialect"
local flags = require "ft.dialect.flags"

--- What is accepted and changes nothing, said once.
local function say_notes(notes)
  local said = {}
  for _, note in ipairs(notes) do
    if not said[note.key] then
      said[note.key] = true
      io.stderr:write(("note: %s %s\n"):format(note.key, note.text))
    end
  end
end

--- Steps between two evaluations; nil for none but the last.
local function every(loop, run, epochs)
  if loop.evaluate and loop.evaluate < 1 then return math.max(1, math.ceil(run.total_steps * loop.evaluate)) end
  if loop.evaluate then return loop.evaluate end
  if not loop.evaluations then return nil end
  return math.max(1, math.floor(run.total_steps / (epochs * loop.evaluations) + 0.5))
end

--- The backward of one step. @return a row of metrics: the loss, and of pairs their rewards
local function learn(run, window, loop)
  if loop.dpo then return require("ft.dpo").step(run, window, loop.dpo) end
  local tokens = run:sum(window:tokens())
  local loss = 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  return { loss = loss }
end

--- Adds what the held-out rows come to.
local function evaluate(run, row, loop)
  if not loop.dpo then
    row.val_loss = run:evaluate("val").loss
    return
  end
  for name, value in pairs(require("ft.dpo").evaluate(run, "val", loop.dpo)) do row[name] = value end
end

local function say_stopped(run, step, watchdog)
  if run.rank ~= 0 then return end
  io.stderr:write(("note: the run ends at step %d: the loss was above %g for %d steps (loss_watchdog_threshold)\n"):format(step,
    watchdog.threshold, watchdog.patience))
end

local function train(plan, loop)
  local run = plan:start()
  local has_val = plan.plan.data.val ~= nil
  local between = has_val and every(loop, run, plan.plan.epochs)
  local high = 0 -- steps in a row whose loss was above the watchdog's threshold
  for step, window in run:steps() do
    local row = learn(run, window, loop)
    row.step, row.grad_norm = step, loop.clip > 0 and run:clip(loop.clip) or nil
    run:update()
    row.lr = run.lr
    if not loop.dpo then row.loss = run:sum(row.loss) end
    if between and step % between == 0 or has_val and step == run.total_steps then evaluate(run, row, loop) end
    if row.val_loss or step % loop.log == 0 or step == run.total_steps then run:log(row) end
    if loop.watchdog then high = row.loss > loop.watchdog.threshold and high + 1 or 0 end
    if loop.watchdog and high == loop.watchdog.patience then
      say_stopped(run, step, loop.watchdog)
      break
    end
  end
  run:finish()
end

return function(...)
  local host = native.host()
  local settings, allowed = flags.read({ ... }, host.recipe)
  local config = dialect.read(host.recipe, settings, allowed)
  if not host.json and not host.quiet then say_notes(config.reader.notes) end
  train(dialect.plan(config), config.parts.loop)
end
