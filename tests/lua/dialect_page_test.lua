--- docs/api/axolotl.md is what stdlib/ft/dialect says, key by key. After a change there, write it again:
---   FTENGINE_UPDATE_GOLDEN=1 ftengine test tests/lua/dialect_page_test.lua
local keys = require "ft.dialect.keys"
local accepted = require "ft.dialect.accepted"
local unsupported = require "ft.dialect.unsupported"
local environment = require "ft.dialect.environment"
local test = require "ft.test"

local opening = [[
# Keys of Axolotl's YAML

What `ftengine run config.yml` reads, key by key, and what each comes to in a recipe ([options.md](options.md) has those keys).
[axolotl.md](../axolotl.md) shows them at work. Every top-level key is also a flag, `--micro-batch-size 2`; nested ones have a
dot, `--fsdp-config.offload-params`. This page is made from `stdlib/ft/dialect` by `tests/lua/dialect_page_test.lua`, which fails
when it differs.
]]

local function sorted(map, wanted)
  local names = {}
  for name, value in pairs(map) do
    if wanted == nil or wanted(name, value) then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local function code(value) return "`" .. tostring(value) .. "`" end

local function kind_of(option)
  if not option.allowed then
    local limits = {}
    for _, limit in ipairs { "above", "at_least", "below", "at_most" } do
      if option[limit] then limits[#limits + 1] = (limit:gsub("_", " ")) .. " " .. option[limit] end
    end
    return option.kind .. (limits[1] and ", " .. table.concat(limits, ", ") or "")
  end
  local values = {}
  for i, value in ipairs(option.allowed) do values[i] = code(value) end
  return table.concat(values, ", ")
end

local function options(title, declared, wanted)
  local lines = { ("\n## %s\n\n| key | kind | meaning |\n|---|---|---|\n"):format(title) }
  for _, key in ipairs(sorted(declared, wanted)) do
    lines[#lines + 1] = ("| %s | %s | %s |\n"):format(code(key), kind_of(declared[key]), declared[key].help)
  end
  return table.concat(lines)
end

--- Keys with a text each, those of one text together.
local function grouped(title, texts)
  local lines, by_text, order = { ("\n## %s\n\n| keys | |\n|---|---|\n"):format(title) }, {}, {}
  for _, key in ipairs(sorted(texts)) do
    local group = by_text[texts[key]]
    if not group then
      group = {}
      by_text[texts[key]], order[#order + 1] = group, texts[key]
    end
    group[#group + 1] = code(key)
  end
  for _, text in ipairs(order) do lines[#lines + 1] = ("| %s | %s |\n"):format(table.concat(by_text[text], ", "), text) end
  return table.concat(lines)
end

local function variables()
  local lines = {
    "\n## Environment variables\n\n",
    "Read with `ACCELERATE_USE_FSDP=true`, where neither configuration nor profile says it.\n",
    "\n| variable | |\n|---|---|\n| `FSDP_VERSION` | fills `fsdp_version` |\n",
  }
  for _, variable in ipairs(environment.variables) do
    lines[#lines + 1] = ("| %s | %s |\n"):format(code(variable.name), variable.key
      and "fills " .. code("fsdp_config." .. variable.key) .. (variable.version and ", with version 2 alone" or "")
      or "has no effect here: " .. variable.no_effect)
  end
  return table.concat(lines)
end

local function loggers()
  local names = {}
  for i, entry in ipairs(accepted.patterns) do names[i] = code(entry.prefix .. "…") end
  return ("\nKeys of loggers (%s) are warned of: each %s.\n"):format(table.concat(names, ", "), accepted.patterns[1].note)
end

local function page()
  return table.concat {
    opening, options("Top level", keys.known, function(key) return not accepted.notes[key] end),
    options("In fsdp_config", keys.fsdp), options("In an entry of datasets", keys.dataset),
    grouped("In an entry of datasets, and refused", keys.dataset_refused), options("In a type of one's own", keys.prompt),
    options("In a type of one's own, with rl: dpo", keys.pair),
    options("In an entry of pretraining_dataset", keys.pretraining),
    grouped("Accepted, and without effect", accepted.notes), loggers(),
    grouped("Refused: what each would have done", unsupported), variables(),
  }
end

test.case("every key of the dialect has a line of documentation", function(t)
  for key, option in pairs(keys.known) do
    t.truthy((option.help ~= nil) ~= (accepted.notes[key] ~= nil), key .. " wants a help, or a note in accepted.lua")
  end
  for _, declared in ipairs { keys.fsdp, keys.dataset, keys.prompt, keys.pair, keys.pretraining } do
    for key, option in pairs(declared) do t.truthy(option.help, key) end
  end
  for key in pairs(accepted.notes) do t.truthy(keys.known[key], key .. " is accepted, but not known") end
  for key in pairs(unsupported) do t.truthy(not keys.known[key], key .. " is both known and unsupported") end
end)

test.case("the page of the dialect is what its keys say", function(t)
  if os.getenv "FTENGINE_UPDATE_GOLDEN" then
    local file = assert(io.open("docs/api/axolotl.md", "wb"))
    file:write(page())
    file:close()
  end
  t.truthy(t.read "docs/api/axolotl.md" == page(),
    "docs/api/axolotl.md differs; write it again: FTENGINE_UPDATE_GOLDEN=1 ftengine test tests/lua/dialect_page_test.lua")
end)
