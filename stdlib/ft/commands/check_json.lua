--- ftengine check FILE --json: { ok, errors, warnings, normalized }, whatever is wrong. Exit code 1 when it is refused.
local native = require "ft.native"
local faults = require "ft.faults"

--- An error that is no list of faults: a syntax error, a file that is not there.
local function one_error(raised)
  if type(raised) ~= "table" then
    local where, message = tostring(raised):match("^(.-:%d+): (.*)$")
    return { where = where, message = message or tostring(raised) }
  end
  return { key = raised.path, where = raised.where, message = raised.message, help = raised.help }
end

local function start(...)
  local file = native.host().recipe
  if file:match("%.ya?ml$") then
    require("ft.commands.config")(...)
    return
  end
  local chunk, wrong = loadfile(file)
  if not chunk then error(wrong, 0) end
  chunk(...)
end

return function(...)
  local done, raised = pcall(start, ...)
  local answer = { ok = done, errors = {}, warnings = native.fault_values(faults.warnings) }
  if not done then
    if type(raised) == "table" and (raised.kind == "usage" or raised.kind == "exit" or raised.kind == "interrupt") then
      error(raised, 0)
    end
    answer.errors = type(raised) == "table" and raised.faults or { one_error(raised) }
  end
  answer.normalized = faults.normalized
  print(native.to_json(answer, 2))
  if not done then error({ kind = "exit", code = 1 }, 0) end
end
