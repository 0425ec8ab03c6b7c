-- Messages, word for word: tests/golden/errors/NAME.lua and what is printed for it.
local native = require "ft.native"
local test = require "ft.test"

local folder = "tests/golden/errors"
for _, file in ipairs(native.list_folder(folder)) do
  local name = file:match("^(.*)%.lua$")
  if name then
    test.case("the message for " .. name:gsub("_", " ") .. " is as it was", function(t)
      local output, code = t.program("check", folder .. "/" .. file)
      t.equal(code, 1)
      local golden = folder .. "/" .. name .. ".txt"
      if os.getenv("FTENGINE_UPDATE_GOLDEN") then
        local out = assert(io.open(golden, "wb"))
        out:write(output)
        out:close()
      end
      t.equal(output, t.read(golden))
    end)
  end
end
