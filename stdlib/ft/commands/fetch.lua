--- ftengine fetch deepspeed_configs|profiles [--dest DIR]: writes files that are inside the program.
local native = require "ft.native"
local flags = require "ft.commands.flags"

return function(...)
  local given = flags.read({ ... }, { positional = { "WHAT" }, dest = "string" })
  if given.what ~= "deepspeed_configs" and given.what ~= "profiles" then
    flags.wrong(("got '%s', want deepspeed_configs or profiles"):format(given.what))
  end
  local folder = given.dest or given.what
  native.make_folder(folder)
  for _, name in ipairs(native.embedded_names(given.what .. "/")) do
    local path = folder .. "/" .. name:match("[^/]+$")
    local file, wrong = io.open(path, "wb")
    if not file then native.raise { kind = "io", message = "cannot be written: " .. wrong, where = path } end
    file:write((native.embedded(name)))
    file:close()
    print(path)
  end
end
