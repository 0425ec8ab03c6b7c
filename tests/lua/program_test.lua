--- The program as tests and ftengine verify start it anew.
local native = require "ft.native"
local test = require "ft.test"

test.case("a program whose file is replaced while it runs still starts itself", function(t)
  local copy = t.folder .. "/ftengine"
  os.execute(("cp '%s' '%s'"):format(native.host().program, copy))
  local file = t.write("replaced_test.lua", [[
local test = require "ft.test"
test.case("starts itself", function(t)
  os.remove "]] .. copy .. [["
  local output, code = t.program "--version"
  t.equal(code, 0)
  t.contains(output, "ftengine")
end)
]])
  local pipe = io.popen(("'%s' test '%s' 2>&1"):format(copy, file))
  local output = pipe:read "*a"
  pipe:close()
  t.contains(output, "1 of 1 tests passed")
end)
