--- ftengine check FILE --json: { ok, errors, warnings, normalized }, whatever is wrong. Exit code 1 when it is refused.
local native = require "ft.native"

return function(...)
  local answer = require("ft.verdict").of(native.host().recipe, ...)
  print(native.to_json(answer, 2))
  if not answer.ok then error({ kind = "exit", code = 1 }, 0) end
end
