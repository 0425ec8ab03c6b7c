--- Flags of `ftengine run config.yml`: every top-level key is one, nested keys follow a dot:
---   --micro-batch-size 2  --fsdp-config.offload-params true  --no-sample-packing  --set key=value  --allow-unsupported
local native = require "ft.native"
local keys = require "ft.dialect.keys"
local unsupported = require "ft.dialect.unsupported"
local accepted = require "ft.dialect.accepted"
local sorted_keys = require "ft.sorted_keys"

local flags = {}

local function wrong(message) error({ kind = "usage", message = message }, 0) end

local function known(key)
  local outer, inner = key:match("^([^.]+)%.(.+)$")
  if outer then return outer == "fsdp_config" and keys.fsdp[(inner:gsub("^fsdp_", ""))] ~= nil end
  return keys.known[key] ~= nil or unsupported[key] ~= nil or accepted.note(key) ~= nil
end

local function unknown(flag)
  local names = { "--set", "--allow-unsupported", "--help", "--nproc", "--resume", "--trace" }
  for key in pairs(keys.known) do names[#names + 1] = "--" .. key:gsub("_", "-") end
  for key in pairs(keys.fsdp) do names[#names + 1] = "--fsdp-config." .. key:gsub("_", "-") end
  table.sort(names)
  local near = native.nearest(flag:gsub("_", "-"), names)
  wrong(("unknown flag '%s'\n   help: %severy key of the configuration is a flag: --micro-batch-size 2"):format(flag,
    near and ("did you mean '" .. near .. "'?  ") or ""))
end

local function is_switch(key)
  local inner = key:match("^fsdp_config%.(.+)$")
  local option = inner and keys.fsdp[(inner:gsub("^fsdp_", ""))] or keys.known[key]
  return option and option.kind:find("boolean", 1, true) ~= nil
end

--- The page of --help.
local function help(file)
  print(("usage: ftengine run %s [--key value …]\n"):format(file))
  print("every key of the configuration is a flag; nested ones have a dot:")
  for _, key in ipairs(sorted_keys(keys.known)) do
    print(("  --%-34s %-18s %s"):format(key:gsub("_", "-"), keys.known[key].kind, keys.known[key].help
      or accepted.notes[key]))
  end
  print("\n  --set key=value                      one key\n"
    .. "  --allow-unsupported                  leave out what is not supported\n"
    .. "  --nproc N                            ranks on this machine\n  --resume auto|DIR                    go on with a run")
  error({ kind = "exit" }, 0)
end

--- @return settings { { key, value, flag } }, whether unsupported keys are allowed
function flags.read(words, file)
  local settings, allowed, i = {}, false, 1
  local function put(key, value, flag)
    if not known(key) then unknown(flag) end
    settings[#settings + 1] = { key = key, value = value, flag = flag }
  end
  while i <= #words do
    local word = words[i]
    if word == "--help" or word == "-h" then help(file) end
    if word:sub(1, 2) ~= "--" then wrong(("unexpected argument '%s'\n   help: keys are written --key value"):format(word)) end
    local flag, value = word:match("^(%-%-[^=]+)=(.*)$")
    flag = flag or word
    local key = flag:sub(3):gsub("-", "_")
    if flag == "--allow-unsupported" then
      allowed = true
    elseif flag == "--set" then
      if not value then i, value = i + 1, words[i + 1] end
      local name, text = tostring(value):match("^([^=]+)=(.*)$")
      if not name then wrong(("'--set %s' is not key=value"):format(tostring(value))) end
      put(name, text, "--set " .. name)
    else
      local negated = key:match("^no_(.+)$")
      if not known(key) and negated and known(negated) then
        put(negated, false, flag)
      elseif not known(key) then
        unknown(flag)
      elseif not value and is_switch(key) and (words[i + 1] == nil or words[i + 1]:sub(1, 2) == "--") then
        put(key, true, flag)
      else
        if not value then i, value = i + 1, words[i + 1] end
        if not value then wrong("'" .. flag .. "' wants a value") end
        put(key, value, flag)
      end
    end
    i = i + 1
  end
  return settings, allowed
end

return flags
