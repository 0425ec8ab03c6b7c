--- What is wrong with what the user wrote, gathered: errors are raised together, warnings said once and remembered for
--- `check --json`.
local native = require "ft.native"

local faults = { warnings = {} }

--- Says warnings on stderr; in `check --json` they wait for the answer.
function faults.warn(list)
  for _, fault in ipairs(list) do
    fault.warning = true
    faults.warnings[#faults.warnings + 1] = fault
  end
  if not native.host().json then native.say(list) end
end

--- Warnings are said, errors raised.
--- @param list { { warning =, path =, message =, help =, rule =, file =, line = }, … }
function faults.settle(list)
  local errors, warnings = {}, {}
  for _, fault in ipairs(list) do table.insert(fault.warning and warnings or errors, fault) end
  if #warnings > 0 then faults.warn(warnings) end
  if #errors > 0 then native.raise_list(errors) end
end

return faults
