--- What `ftengine check FILE --json` answers, whatever is wrong: { ok, errors, warnings, normalized }.
local native = require "ft.native"
local faults = require "ft.faults"

local verdict = {}

--- An error that is no list of faults: a syntax error, a file that is not there.
local function one_error(raised)
  if type(raised) ~= "table" then
    local where, message = tostring(raised):match("^(.-:%d+): (.*)$")
    return { where = where, message = message or tostring(raised) }
  end
  return { key = raised.path, where = raised.where, message = raised.message, help = raised.help }
end

local function start(file, ...)
  if file:match("%.ya?ml$") then
    require("ft.commands.config")(...)
    return
  end
  local chunk, wrong = loadfile(file)
  if not chunk then error(wrong, 0) end
  chunk(...)
end

--- Whether the command line itself was wrong, or the program is to end: no verdict on the file.
local function ends(raised)
  return type(raised) == "table" and (raised.kind == "usage" or raised.kind == "exit" or raised.kind == "interrupt")
end

--- Checks a recipe or a configuration with the words of a command line.
--- @return { ok, errors, warnings, normalized }, what was raised (nil when nothing was)
function verdict.of(file, ...)
  faults.warnings, faults.normalized = {}, nil
  local done, raised = pcall(start, file, ...)
  if not done and ends(raised) then error(raised, 0) end
  local errors = {}
  if not done then errors = type(raised) == "table" and raised.faults or { one_error(raised) } end
  local answer = {
    ok = done, errors = errors, warnings = native.fault_values(faults.warnings), normalized = faults.normalized,
  }
  return answer, not done and raised or nil
end

return verdict
