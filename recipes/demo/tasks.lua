--- The instructions: a list to be said backwards, or its first or last thing to be named. The pre-training text has the
--- skill, in stories; it has neither these questions nor any chat about lists.

local tasks = {}

local backwards = { "Reverse this list: %s", "Say this list backwards: %s", "List these in reverse order: %s" }
local first = { "What is the first of these? %s", "Name the first thing in this list: %s" }
local last = { "What is the last of these? %s", "Name the last thing in this list: %s" }

--- A prompt and its answer. Three in five are reversals, since a list's answer is the hardest to guess.
--- @param things table the things that may be named
function tasks.sample(random, things)
  local kind, list = random:below(5), random:pick_some(things, random:between(3, 6))
  local text = table.concat(list, " ")
  if kind == 3 then return random:pick(first):format(text), "The first is " .. list[1] end
  if kind == 4 then return random:pick(last):format(text), "The last is " .. list[#list] end
  local back = {}
  for i = #list, 1, -1 do back[#back + 1] = list[i] end
  return random:pick(backwards):format(text), "In reverse order: " .. table.concat(back, " ")
end

return tasks
