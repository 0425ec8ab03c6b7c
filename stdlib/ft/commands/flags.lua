--- Flags of the commands that are written in Lua: positional words, --name VALUE, and switches.
local native = require "ft.native"

--- A wrong command line: exit code 2.
local function wrong(message) error({ kind = "usage", message = message }, 0) end

local flags = { wrong = wrong }

--- A flag's text by what it is declared as: "string", "number", or the list of words it may be.
local function read(kind, text, flag)
  if kind == "number" then return tonumber(text) or wrong(("%s: got '%s', want a number"):format(flag, text)) end
  if kind == "string" then return text end
  for _, word in ipairs(kind) do if word == text then return text end end
  return wrong(("%s: got '%s', want one of %s"):format(flag, text, table.concat(kind, ", ")))
end

--- flags.read({ "DIR", … }, { positional = { "DIR" }, prompt = "string", seed = "number", json = "switch" })
--- @return values by name; positional words by their names in lower case
function flags.read(words, declared)
  local out, place, i = {}, 0, 1
  local names = {}
  for name in pairs(declared) do if name ~= "positional" then names[#names + 1] = "--" .. name:gsub("_", "-") end end
  table.sort(names)
  while i <= #words do
    local word = words[i]
    if word:sub(1, 2) ~= "--" then
      place = place + 1
      local name = declared.positional[place] or wrong("unexpected argument '" .. word .. "'")
      out[name:lower()] = word
    else
      local flag, value = word:match("^(%-%-[^=]+)=(.*)$")
      flag = flag or word
      local name = flag:sub(3):gsub("-", "_")
      local kind = declared[name]
      if not kind or name == "positional" then
        local near = native.nearest(flag, names)
        wrong(("unknown flag '%s'\n   help: %sflags: %s"):format(flag, near and ("did you mean '" .. near .. "'?  ") or "",
          table.concat(names, ", ")))
      end
      if kind == "switch" then
        out[name] = true
      else
        if not value then i, value = i + 1, words[i + 1] end
        if not value then wrong("'" .. flag .. "' wants a value") end
        out[name] = read(kind, value, flag)
      end
    end
    i = i + 1
  end
  for _, name in ipairs(declared.positional) do
    if not out[name:lower()] then wrong("wants " .. name .. " (" .. table.concat(declared.positional, " ") .. ")") end
  end
  return out
end

return flags
