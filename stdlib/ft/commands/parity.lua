--- ftengine parity DIR --reference values.safetensors: a model's loss, logits and gradients against those that another
--- implementation stored (docs/models.md shows a script that stores transformers'). In fp32, on one process.
local flags = require "ft.commands.flags"
local native = require "ft.native"
local open = require "ft.commands.open"

local declared = { positional = { "DIR" }, reference = "string", json = "switch" }
--- What rounding in fp32 stays below: relative, absolute, relative in norm. A bug is orders of magnitude above.
local bounds = { loss = 1e-5, logits = 1e-4, gradient = 1e-4 }
local shown = 10 -- gradients that are named, the worst first

local function check(found)
  local faults = {}
  local function fault(form, ...) faults[#faults + 1] = form:format(...) end
  local off = math.abs(found.loss - found.want_loss) / math.abs(found.want_loss)
  if not (off <= bounds.loss) then fault("loss: %.2e relative, want at most %.0e", off, bounds.loss) end
  if found.logits and not (found.logits <= bounds.logits) then
    fault("logits: %.2e at most, want at most %.0e", found.logits, bounds.logits)
  end
  for _, gradient in ipairs(found.gradients) do
    if not (gradient.distance <= bounds.gradient) then
      fault("gradient of %s: %.2e in norm, want at most %.0e", gradient.name, gradient.distance, bounds.gradient)
    end
  end
  if #found.gradients > 0 then
    for _, name in ipairs(found.missing) do fault("gradient of %s: not in the reference", name) end
  end
  return off, faults
end

return function(...)
  local given = flags.read({ ... }, declared)
  if not given.reference then flags.wrong("parity wants --reference values.safetensors") end
  local opened = open(given.dir, { compute = "fp32" })
  if opened.plan.adapter then
    native.raise { kind = "config", where = given.dir, message = "has an adapter: parity is of a whole model",
                   help = "ftengine merge writes one" }
  end
  local found = opened.model:parity(given.reference)
  table.sort(found.gradients, function(a, b)
    if a.distance ~= b.distance then return a.distance > b.distance end
    return a.name < b.name
  end)
  local off, faults = check(found)
  if given.json then
    print(native.to_json { ok = #faults == 0, loss = found.loss, want_loss = found.want_loss, logits = found.logits,
                           gradients = found.gradients, missing = found.missing })
  else
    print(("loss       %.8g, reference %.8g: %.1e relative"):format(found.loss, found.want_loss, off))
    if found.logits then print(("logits     %.1e at most"):format(found.logits)) end
    print(("gradients  %d compared%s"):format(#found.gradients, #found.gradients > 0 and ", the furthest in norm:" or ""))
    for i = 1, math.min(shown, #found.gradients) do
      print(("           %.1e  %s"):format(found.gradients[i].distance, found.gradients[i].name))
    end
  end
  if #faults > 0 then
    local more = #faults > shown and ("; %d more"):format(#faults - shown) or ""
    native.raise { kind = "shape", where = given.dir, message = "differs from the reference: "
                     .. table.concat(faults, "; ", 1, math.min(shown, #faults)) .. more,
                   help = "the block that the first wrong gradient of the last layers belongs to is the one to look at" }
  end
end
