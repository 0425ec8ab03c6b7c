--- What ranks will compute on, as far as it is known before anything is opened: facts for the rules.
local native = require "ft.native"

local device = {}

--- The oldest cards that the kernels are compiled for: compute capability 8.0, times ten.
device.oldest = 80

--- @param wanted the plan's parallel.device; nil: "auto"
--- @return { kind = "cuda" or "cpu", nil where nobody can know: a plan that is checked may run elsewhere;
---   asked = who says so: "auto", "cpu" or "cuda"; old = the newest card where none is new enough;
---   fast = the dtype that this processor is fast in }
function device.facts(wanted)
  local known = native.device_facts()
  local variable = os.getenv("FTENGINE_DEVICE")
  local asked = variable ~= "" and variable or wanted or "auto"
  local here = native.gpus(wanted or "auto") > 0
  local facts = { asked = asked, fast = known.fast }
  facts.kind = here and "cuda" or (asked == "cpu" or native.host().command == "run") and "cpu" or nil
  local newest
  for _, card in ipairs(here and known.cards or {}) do
    if not newest or card.sm > newest.sm then newest = card end
  end
  facts.old = newest and newest.sm < device.oldest and newest or nil
  return facts
end

--- "Tesla T4 has compute capability 7.5"
function device.text(card)
  return ("%s has compute capability %d.%d"):format(card.name, math.floor(card.sm / 10), card.sm % 10)
end

return device
