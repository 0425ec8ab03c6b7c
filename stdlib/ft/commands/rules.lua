--- ftengine rules [ID]: the conditions that a plan must meet, or one of them explained.
local rules = require "ft.rules"

local function explain(rule)
  print(rule.name .. (rule.severity == "warning" and " (warning)" or ""))
  for _, part in ipairs { "sentence", "reason", "source", "help" } do print(("  %-9s %s"):format(part, rule[part] or "")) end
  print(("  %-9s %s"):format("keys", table.concat(rule.keys, ", ")))
end

return function(id, more)
  if more or (id and id:sub(1, 2) == "--") then error({ kind = "usage", message = "rules wants at most one id" }, 0) end
  if id then
    explain(rules.find(id))
    return
  end
  for _, rule in ipairs(rules.all()) do
    print(("%-48s %s%s"):format(rule.name, rule.severity == "warning" and "warning: " or "", rule.sentence or ""))
  end
  print("\nftengine rules ID explains one. A recipe adds its own by plan:rule, and switches a warning off by plan:without(ID).")
end
