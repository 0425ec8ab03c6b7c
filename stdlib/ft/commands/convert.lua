--- ftengine convert CONFIG.yml -o recipe.lua | -o new.yml: the recipe that does the same, or FSDP2's spelling.
local native = require "ft.native"
local dialect = require "ft.dialect"
local flags = require "ft.commands.flags"

local function read_text(path)
  local file, wrong = io.open(path, "rb")
  if not file then native.raise { kind = "io", where = path, message = wrong } end
  local text = file:read("*a")
  file:close()
  return text
end

return function(...)
  local words = { ... }
  for i, word in ipairs(words) do if word == "-o" then words[i] = "--out" end end
  local given = flags.read(words, { positional = { "CONFIG.yml" }, out = "string", allow_unsupported = "switch" })
  local from, to = given["config.yml"], given.out
  if not to or not (to:match("%.lua$") or to:match("%.ya?ml$")) then
    flags.wrong("convert wants -o FILE: recipe.lua, or new.yml")
  end
  local config = dialect.read(from, {}, given.allow_unsupported)
  local text = to:match("%.lua$") and require("ft.dialect.recipe_text").write(config, to)
    or require("ft.dialect.fsdp2_text").write(config, read_text(from))
  local file, wrong = io.open(to, "wb")
  if not file then native.raise { kind = "io", where = to, message = "cannot be written: " .. wrong } end
  file:write(text)
  file:close()
  print(to)
end
