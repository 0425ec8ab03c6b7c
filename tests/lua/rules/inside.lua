--- Checks recipes and configurations inside the test's own process: a program a case would take a third of a second each.
local native = require "ft.native"
local faults = require "ft.faults"
local verdict = require "ft.verdict"

local inside = {}

--- The host as `ftengine check FILE --json --nproc N` has it, under a launcher of WORLD_SIZE ranks, on a machine with the
--- given cards (by default none) whose FTENGINE_DEVICE says nothing, while body runs.
local function as_check(file, how, body)
  local host, ranks, gpus, device_facts = native.host, native.ranks, native.gpus, native.device_facts
  local getenv = os.getenv
  os.getenv = function(name) return name ~= "FTENGINE_DEVICE" and getenv(name) or nil end -- luacheck: ignore 122
  native.device_facts = function() return { cards = how.cards or {}, fast = how.fast or "bf16" } end
  native.gpus = function(wanted) return wanted == "cpu" and 0 or #(how.cards or {}) end
  local like = host()
  like.command, like.recipe, like.json, like.quiet = "check", file, true, true
  like.nproc, like.resume = how.nproc or 1, how.resume or ""
  native.host = function() return like end
  if how.launched then
    native.ranks = function() return { rank = 0, world_size = how.launched, said_by = "WORLD_SIZE" } end
  end
  require("ft.options").filled = true
  local results = { pcall(body) }
  native.host, native.ranks, native.gpus, native.device_facts = host, ranks, gpus, device_facts
  os.getenv = getenv -- luacheck: ignore 122
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2)
end

--- Everything that is wrong, as a terminal shows it.
local function text_of(raised)
  local parts = {}
  if #faults.warnings > 0 then
    local _, list = pcall(native.raise_list, faults.warnings)
    parts[1] = tostring(list)
  end
  if raised then parts[#parts + 1] = tostring(raised) end
  return table.concat(parts, "\n") .. "\n"
end

--- @param how { nproc =, launched =, resume =, words = { "--flag", … }, cards = { { name =, sm = }, … }, fast = "bf16" }
--- @return the answer of check --json, and the messages as text
function inside.check(file, how)
  return as_check(file, how or {}, function()
    local answer, raised = verdict.of(file, unpack(how and how.words or {}))
    return answer, text_of(raised), raised
  end)
end

--- Reads a configuration of the dialect without a word.
function inside.read(file)
  return as_check(file, {}, function() return require("ft.dialect").read(file) end)
end

--- Whether rules that failed are among an answer's faults.
function inside.named(answer, rule)
  for _, list in ipairs { answer.errors, answer.warnings } do
    for _, fault in ipairs(list) do if fault.rule == rule then return true end end
  end
  return false
end

return inside
