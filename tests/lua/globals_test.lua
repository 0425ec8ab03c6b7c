local test = require "ft.test"

test.case("reading an undeclared global raises its name and line", function(t)
  local raised = t.raises(function() return missing_name end, "global 'missing_name' is not declared") -- luacheck: ignore
  t.contains(raised, "globals_test.lua:4")
end)

test.case("assigning a global raises and says to write local", function(t)
  t.raises(function() counter = 1 end, "global 'counter' is assigned; write 'local counter'") -- luacheck: ignore
end)

test.case("what Lua itself declares stays readable", function(t)
  t.equal(type(string.format), "function")
  t.equal(type(_VERSION), "string")
end)

test.case("the metatable of globals cannot be taken away", function(t)
  t.raises(function() setmetatable(_G, nil) end)
end)

test.case("the standard library's chunks are named by their files", function(t)
  t.equal(debug.getinfo(require "ft.test".case, "S").source, "@stdlib/ft/test.lua")
end)

test.case("a module that is nowhere is named with the places that were looked in", function(t)
  t.raises(function() require "ft.no_such_module" end, "stdlib/ft/no_such_module.lua")
end)

test.case("a module beside the recipe is found", function(t)
  t.write("sums.lua", "return { add = function(a, b) return a + b end }")
  local recipe = t.write("recipe.lua", "print(require('sums').add(2, 3))")
  local output, code = t.program("run", recipe)
  t.equal(output, "5\n")
  t.equal(code, 0)
end)

test.case("a collection of handles frees what they hold", function(t)
  local ft = require "ft"
  for _ = 1, 200 do ft.aten.zeros({ 1024, 1024 }) end -- 800 MB in all: pressure must collect on the way
  local status = t.read("/proc/self/status")
  local resident = tonumber(status:match("VmRSS:%s*(%d+) kB"))
  t.truthy(resident < 700 * 1024, "resident " .. resident .. " kB")
end)
