--- ftengine profiles [NAME]: the layouts that are built in, or the file of one.
local native = require "ft.native"

return function(name, more)
  if more or (name and name:sub(1, 2) == "--") then error({ kind = "usage", message = "profiles wants at most one name" },
    0) end
  if name then
    native.profile(name) -- names the nearest when there is none
    io.write((native.embedded("profiles/" .. name .. ".yaml")))
    return
  end
  for _, file in ipairs(native.embedded_names("profiles/")) do
    print(("%-32s %s"):format(file:match("([^/]+)%.yaml$"), native.embedded(file):match("^# ([^\n]*)") or ""))
  end
end
