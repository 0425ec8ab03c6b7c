--- ft.lora { from = DIR, … }: what the adapter in DIR was made with holds, since its matrices only fit that; a key
--- that the recipe states as well must say the same. Dropout is the run's own affair: the recipe's, else the adapter's.
local native = require "ft.native"

--- Lists of names are sets, PEFT writes them in any order; patterns are maps.
local function text_of(value)
  if type(value) ~= "table" then return tostring(value) end
  local names = {}
  for i = 1, #value do names[i] = tostring(value[i]) end
  for key, one in pairs(value) do
    if type(key) == "string" then names[#names + 1] = key .. " = " .. tostring(one) end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local function refuse_difference(given, key, want, dir)
  local file, line = native.origin(native.construct("lora", given), key)
  native.raise_list { {
    path = "adapter." .. key, file = file, line = line,
    message = ("got %s, want %s: that is what %s was made with"):format(text_of(given[key]), text_of(want), dir),
    help = "leave it away: adapter.from brings it along",
  } }
end

--- Keys of which an adapter's configuration speaks only where they ask for something.
local silent = {
  "alpha_pattern", "exclude_modules", "layers_pattern", "layers_to_transform", "lora_bias", "modules_to_save", "rank_pattern",
  "use_dora",
}

local function asks_for_something(value)
  if type(value) == "table" then return next(value) ~= nil end
  return value ~= nil and value ~= false
end

--- @param given what the recipe says, with `from`   @return the same with what the adapter's configuration adds
return function(given)
  local filled = {}
  for key, value in pairs(given) do filled[key] = value end
  filled.from = native.absolute(given.from)
  local made_with = native.peft_options(filled.from)
  if filled.init_lora_weights == "loftq" and not made_with.init_lora_weights then
    refuse_difference(given, "init_lora_weights", true, filled.from)
  end
  for _, key in ipairs(silent) do
    if made_with[key] == nil and asks_for_something(given[key]) then refuse_difference(given, key, "nothing", filled.from) end
  end
  for key, value in pairs(made_with) do
    if filled[key] == nil then
      filled[key] = value
    elseif key ~= "dropout" and text_of(filled[key]) ~= text_of(value) then
      refuse_difference(given, key, value, filled.from)
    end
  end
  return filled
end
